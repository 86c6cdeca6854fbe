package webhook

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/client/injection/kube/informers/admissionregistration/v1/mutatingwebhookconfiguration"
	"knative.dev/pkg/client/injection/kube/informers/admissionregistration/v1/validatingwebhookconfiguration"
	"knative.dev/pkg/injection/clients/namespacedkube/informers/core/v1/secret"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/reconciler"
	"knative.dev/pkg/system"
	kwebhook "knative.dev/pkg/webhook"
	"sigs.k8s.io/yaml"
)

// shipped returns the documents of a file of config/ that are of the kind, by name.
func shipped[T any](t *testing.T, file, kind string) map[string]*T {
	t.Helper()
	text, err := os.ReadFile("../../config/" + file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*T{}
	for _, document := range strings.Split(string(text), "\n---\n") {
		var meta metav1.PartialObjectMetadata
		if err := yaml.Unmarshal([]byte(document), &meta); err != nil {
			t.Fatal(err)
		}
		if meta.Kind != kind {
			continue
		}
		o := new(T)
		if err := yaml.UnmarshalStrict([]byte(document), o); err != nil {
			t.Fatalf("decode %s of %s: %v", meta.Name, file, err)
		}
		found[meta.Name] = o
	}
	if len(found) == 0 {
		t.Fatalf("%s holds no %s", file, kind)
	}
	return found
}

func (s *server) admitConfig(t *testing.T, c *corev1.ConfigMap) *admissionv1.AdmissionResponse {
	t.Helper()
	data, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return s.config.Admit(s.ctx, &admissionv1.AdmissionRequest{
		Operation: admissionv1.Update, Kind: metav1.GroupVersionKind{Version: "v1", Kind: "ConfigMap"},
		Object: runtime.RawExtension{Raw: toJSON(t, string(data))},
	})
}

func TestConfigMaps(t *testing.T) {
	s := newServer(t)
	maps := shipped[corev1.ConfigMap](t, "400-configmaps.yaml", "ConfigMap")
	for name, c := range maps {
		if got := s.admitConfig(t, c); !got.Allowed {
			t.Errorf("%s as shipped: %s", name, got.Result.Message)
		}
	}
	config, err := newLogging(maps["config-logging"])
	if err != nil {
		t.Fatal(err)
	}
	if log, level := logging.NewLoggerFromConfig(config, "events-webhook"); log.Desugar().Name() != "events-webhook" || level.String() != "info" {
		t.Errorf("the shipped logger is %q at %s, want events-webhook at info", log.Desugar().Name(), level)
	}
	for _, tt := range []struct{ name, key, value, want string }{
		{"config-logging", "zap-logger-config", `{"level": "loud"}`, `zap-logger-config: unrecognized level: "loud"`},
		{"config-logging", "zap-logger-config", `{"level": "info", "encoding": "prose"}`, `zap-logger-config: no encoder registered for name "prose"`},
		{"config-logging", "zap-logger-config", `{"levle": "info"}`, `zap-logger-config: json: unknown field "levle"`},
		{"config-logging", "loglevel.controller", "loud", "invalid logging level: loud"},
		{"config-observability", "metrics-protocol", "pigeon", `unsupported protocol "pigeon"`},
		{"config-observability", "tracing-protocol", "grpc", `endpoint should be set for protocol "grpc"`},
		{"config-leader-election", "buckets", "11", "buckets: value must be between"},
		{"config-leader-election", "lease-duration", "long", `invalid duration "long"`},
		{"config-defaults", "window", "0s", "window: 0s is too short: the least is 1s"},
	} {
		c := maps[tt.name].DeepCopy()
		c.Data[tt.key] = tt.value
		if got := s.admitConfig(t, c); got.Allowed || !strings.Contains(got.Result.Message, tt.want) {
			t.Errorf("%s with %s: %s: %v, want %q", tt.name, tt.key, tt.value, got.Result, tt.want)
		}
	}
}

// TestConfigurationsAreFilledIn lets the webhooks complete the configurations that config/ ships.
func TestConfigurationsAreFilledIn(t *testing.T) {
	s := newServer(t)
	ctx, file := s.ctx, "500-webhook-configurations.yaml"
	client := kubeclient.Get(ctx)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system.Namespace()}}
	certs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system.Namespace(), Name: "events-webhook-certs"}, Data: map[string][]byte{"ca-cert.pem": []byte("CA")}}
	_, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	check(t, err)
	check(t, secret.Get(ctx).Informer().GetIndexer().Add(certs))
	for _, c := range shipped[admissionregistrationv1.MutatingWebhookConfiguration](t, file, "MutatingWebhookConfiguration") {
		_, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(ctx, c, metav1.CreateOptions{})
		check(t, err)
		check(t, mutatingwebhookconfiguration.Get(ctx).Informer().GetIndexer().Add(c))
	}
	for _, c := range shipped[admissionregistrationv1.ValidatingWebhookConfiguration](t, file, "ValidatingWebhookConfiguration") {
		_, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(ctx, c, metav1.CreateOptions{})
		check(t, err)
		check(t, validatingwebhookconfiguration.Get(ctx).Informer().GetIndexer().Add(c))
	}

	defaulting, validation := fillIn(t, s, DefaultingName, s.defaulting), fillIn(t, s, ValidationName, s.validation)
	fillIn(t, s, ConfigName, s.config)
	all := []string{
		"CREATE UPDATE clustereventbuses clustereventbuses/status", "CREATE UPDATE eventbuses eventbuses/status",
		"CREATE UPDATE eventsources eventsources/status", "CREATE UPDATE triggers triggers/status",
	}
	if got := strings.Join(rules(defaulting), "; "); got != strings.Join(all, "; ") {
		t.Errorf("defaulting asks for %s", got)
	}
	want := "CREATE UPDATE DELETE clustereventbuses; CREATE UPDATE DELETE eventbuses; CREATE UPDATE eventsources; CREATE UPDATE triggers"
	if got := strings.Join(rules(validation), "; "); got != want {
		t.Errorf("validation asks for %s, want %s", got, want)
	}
	c, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, ValidationName, metav1.GetOptions{})
	check(t, err)
	if m := c.Webhooks[0].MatchConditions; len(m) != 1 || m[0].Name != "is-not-the-end-of-a-namespace" {
		t.Errorf("validation is asked under the conditions %v, want those that are shipped", m)
	}
}

// fillIn reconciles one configuration, and returns the rules that it then has.
func fillIn(t *testing.T, s *server, name string, webhook kwebhook.AdmissionController) []admissionregistrationv1.RuleWithOperations {
	t.Helper()
	r := webhook.(admission)
	check(t, r.Promote(reconciler.UniversalBucket(), func(reconciler.Bucket, types.NamespacedName) {}))
	check(t, r.Reconcile(s.ctx, name))
	client, rules := kubeclient.Get(s.ctx).AdmissionregistrationV1(), []admissionregistrationv1.RuleWithOperations(nil)
	var to admissionregistrationv1.WebhookClientConfig
	if name == DefaultingName {
		c, err := client.MutatingWebhookConfigurations().Get(context.Background(), name, metav1.GetOptions{})
		check(t, err)
		to, rules = c.Webhooks[0].ClientConfig, c.Webhooks[0].Rules
	} else {
		c, err := client.ValidatingWebhookConfigurations().Get(context.Background(), name, metav1.GetOptions{})
		check(t, err)
		to, rules = c.Webhooks[0].ClientConfig, c.Webhooks[0].Rules
	}
	if to.Service == nil || to.Service.Path == nil || *to.Service.Path != webhook.Path() || string(to.CABundle) != "CA" || len(rules) == 0 {
		t.Errorf("%s leads to %+v with %d rules, want path %s", name, to.Service, len(rules), webhook.Path())
	}
	return rules
}

func rules(of []admissionregistrationv1.RuleWithOperations) []string {
	var lines []string
	for _, r := range of {
		lines = append(lines, strings.Trim(fmt.Sprint(r.Operations), "[]")+" "+strings.Join(r.Resources, " "))
	}
	return lines
}

// TestDeployment holds together what the files of config/ say about the same process.
func TestDeployment(t *testing.T) {
	d := shipped[appsv1.Deployment](t, "500-webhook.yaml", "Deployment")["events-webhook"]
	service := shipped[corev1.Service](t, "500-webhook.yaml", "Service")["events-webhook"]
	if d == nil || service == nil {
		t.Fatal("500-webhook.yaml has no Deployment and Service events-webhook")
	}
	pod := d.Spec.Template
	for key, value := range service.Spec.Selector {
		if pod.Labels[key] != value {
			t.Errorf("the Service selects %s: %s, the pod has %q", key, value, pod.Labels[key])
		}
	}
	c := pod.Spec.Containers[0]
	if c.Image != "ko://github.com/openfunction/events/cmd/webhook" {
		t.Errorf("image %s, want ko's", c.Image)
	}
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	if env["WEBHOOK_NAME"] != service.Name {
		t.Errorf("WEBHOOK_NAME is %q: the certificate must be for the Service %s", env["WEBHOOK_NAME"], service.Name)
	}
	if shipped[corev1.Secret](t, "500-webhook.yaml", "Secret")[env["WEBHOOK_SECRET_NAME"]] == nil {
		t.Errorf("there is no Secret %q", env["WEBHOOK_SECRET_NAME"])
	}
	sc := c.SecurityContext
	if !*sc.RunAsNonRoot || !*sc.ReadOnlyRootFilesystem || *sc.AllowPrivilegeEscalation || sc.Capabilities.Drop[0] != "ALL" ||
		sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() {
		t.Errorf("the container may do too much, or asks for nothing: %+v %+v", sc, c.Resources)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
