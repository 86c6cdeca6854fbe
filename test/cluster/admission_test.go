//go:build e2e

package cluster

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/openfunction/events/test/servers"
)

// TestE2EAdmission installs the release and applies right and wrong objects, as users do.
func TestE2EAdmission(t *testing.T) {
	i := install(t)
	c := i.KubernetesCluster

	t.Run("what is valid elsewhere is accepted, and explained", func(t *testing.T) {
		i.namespace("shop")
		create := []string{"create", "--dry-run=server"}
		for _, pattern := range []string{"../../pkg/apis/events/v1alpha1/testdata/valid/*.yaml", "../../docs/examples/*.yaml"} {
			for _, name := range files(t, pattern) {
				create = append(create, "-f", name)
			}
		}
		if _, err := c.Try(create...); err != nil {
			t.Error(err)
		}
		for field, want := range map[string]string{
			"eventsource.spec":             "With an event bus too, it is one more subscriber of the bus.",
			"trigger.status.subscriptions": "those that exist, and those that begin once what they wait for is there.",
			"ceb.spec.embedded":            "SyncInterval is how often what was written is forced to disk",
		} {
			if got := c.Kubectl("explain", field); !strings.Contains(strings.Join(strings.Fields(got), " "), want) {
				t.Errorf("kubectl explain %s: %s, want %s", field, got, want)
			}
		}
	})
	t.Run("the samples are accepted verbatim", func(t *testing.T) {
		for _, sample := range files(t, "../../config/samples/sample-[2-5]*.yaml") {
			c.Kubectl("apply", "-f", sample)
			for line := range strings.Lines(c.Kubectl("apply", "-f", sample)) {
				if !strings.HasSuffix(strings.TrimSpace(line), " unchanged") {
					t.Errorf("%s applied once more: %s", filepath.Base(sample), line)
				}
			}
		}
		written := `{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: written},
			spec: {logLevel: "", http: {h: {raw: false, type: ""}}, allowedNamespaces: []}}`
		for _, want := range []string{"created", "unchanged"} {
			if out, err := c.TryApply(written); err != nil || !strings.HasSuffix(strings.TrimSpace(out), want) {
				t.Errorf("what is false or empty: %s (%v), want it %s", out, err, want)
			}
		}
		if got := c.Kubectl("get", "trigger", "my-trigger", "-o", "jsonpath={.spec.window} {.spec.inputs.*.namespace}"); got != "60s default" {
			t.Errorf("defaults of the Trigger: %q, want 60s default", got)
		}
		head := strings.Fields(strings.SplitN(c.Kubectl("get", "es"), "\n", 2)[0])
		if got := strings.Join(head, " "); got != "NAME EVENTBUS SINK STATUS COMPONENTS WORKLOADS AGE" {
			t.Errorf("columns: %s", got)
		}
		c.Apply(strings.Replace(kafkaSource(`saslPasswordFrom: {name: s, key: k}`, `sink: {uri: "http://sink.example.com"}`), "warned", "posting", 1))
		eventually(t, func() error {
			wide := strings.Split(c.Kubectl("get", "es", "posting", "-o", "wide"), "\n")
			head, line := strings.Join(strings.Fields(wide[0]), " "), strings.Fields(wide[1])
			if !strings.HasSuffix(head, " AGE REASON MESSAGE") || line[1] != "http://sink.example.com" || len(line) < len(strings.Fields(head)) {
				return fmt.Errorf("kubectl get es -o wide:\n%s\n%s", head, wide[1])
			}
			return nil
		})
		if head := strings.Fields(strings.SplitN(c.Kubectl("get", "tg", "-o", "wide"), "\n", 2)[0]); strings.Join(head, " ") != "NAME EVENTBUS STATUS COMPONENTS WORKLOADS AGE REASON MESSAGE" {
			t.Errorf("columns of Triggers: %s", head)
		}
	})
	t.Run("wrong objects are refused in the words of their files", func(t *testing.T) {
		for _, name := range files(t, "../../pkg/apis/events/v1alpha1/testdata/invalid/*.yaml") {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				want, ok := strings.CutPrefix(strings.TrimSpace(line), "# want: ")
				if !ok || strings.Contains(want, "metadata.namespace") { // The API server looks for the namespace first.
					continue
				}
				if err := says(i.creates(string(text)), want); err != nil {
					t.Errorf("%s: %v", filepath.Base(name), err)
				}
			}
		}
	})
	t.Run("unknown fields and wrong types are refused with their paths", func(t *testing.T) {
		for spec, want := range map[string]string{
			`{embedded: {syncInternal: 1s}}`: `unknown field "spec.embedded.syncInternal"`,
			`{embedded: {maxBytes: many}}`:   `spec.embedded.maxBytes: Invalid value: "string"`,
		} {
			if err := refused(c, eventBus("typo", spec), want); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("kubectl prints warnings", func(t *testing.T) {
		for document, want := range map[string]string{
			kafkaSource(`saslPassword: pl4nted`):                                    `Warning: spec.kafka[orders].saslPassword: `,
			kafkaSource(`saslPasswordFrom: {name: s, key: k}`, `build: {image: i}`): `Warning: spec.build: `,
			eventBus("old", `{topic: t, embedded: {}}`):                             `Warning: spec.topic: `,
		} {
			_, err := c.TryInput(document, "apply", "--warnings-as-errors", "--dry-run=server", "-f", "-")
			if err == nil || strings.Count(err.Error(), "Warning: ") != 1 || !strings.Contains(err.Error(), "\n"+want) {
				t.Errorf("kubectl apply: %v, want %s, and no other warning", err, want)
			}
			if err != nil && strings.Contains(err.Error(), "pl4nted") {
				t.Errorf("a warning shows the password: %v", err)
			}
		}
		if _, err := c.TryInput(kafkaSource(`saslPasswordFrom: {name: s, key: k}`), "apply", "--warnings-as-errors", "--dry-run=server", "-f", "-"); err != nil {
			t.Errorf("what is as it should be: %v", err)
		}
	})
	t.Run("the status can be written and a namespace deleted while admission is away", func(t *testing.T) {
		c.Kubectl("create", "namespace", "leaving")
		for _, o := range []string{eventBus("default", `{embedded: {}}`), kafkaSource(`saslPasswordFrom: {name: s, key: k}`)} {
			if _, err := c.TryInput(o, "-n", "leaving", "create", "-f", "-"); err != nil {
				t.Fatal(err)
			}
		}
		c.Kubectl("-n", "openfunction", "scale", "deployment/events-webhook", "--replicas=0")
		c.Kubectl("-n", "openfunction", "delete", "pod", "-l", "app.kubernetes.io/component=webhook", "--force", "--grace-period=0")
		if _, err := c.Try("apply", "--dry-run=server", "-f", "../../config/samples/sample-1-sink.yaml"); err == nil {
			t.Error("an object was accepted while admission is away")
		}
		c.Kubectl("patch", "es", "my-eventsource", "--subresource=status", "--type=merge", "-p", `{"status": {"state": "Running"}}`)
		if _, err := c.Try("-n", "leaving", "delete", "eb", "default", "--timeout=20s"); err == nil {
			t.Error("a bus was deleted while nobody can say who uses it")
		}
		c.Kubectl("delete", "namespace", "leaving", "--timeout=60s")
		c.Kubectl("-n", "openfunction", "scale", "deployment/events-webhook", "--replicas=1")
		c.Kubectl("-n", "openfunction", "wait", "--for=condition=Available", "--timeout=120s", "deployment/events-webhook")
	})
	t.Run("a bus in use stays", func(t *testing.T) {
		eventually(t, func() error {
			_, err := c.Try("delete", "eb", "default", "--timeout=20s", "--dry-run=server")
			return says(err, "EventBus default: is used by EventSource default/eventsource-a")
		})
		c.Kubectl("apply", "-f", "../../config/samples/sample-1-sink.yaml") // uses no bus
		c.Apply(eventBus("idle", `{embedded: {}}`))
		if _, err := c.Try("delete", "eb", "--all", "--timeout=20s"); says(err, "EventBus default: is used by EventSource default/eventsource-a") != nil {
			t.Errorf("delete --all: %v, want the bus in use to stay", err)
		}
		// kubectl deletes one after the other. This is how others delete all.
		c.Apply(eventBus("idle", `{embedded: {}}`))
		const all = "/apis/events.openfunction.io/v1alpha1/namespaces/default/eventbuses"
		if _, err := c.Try("delete", "--raw", all); says(err, "EventBus default: is used by EventSource default/eventsource-a") != nil {
			t.Errorf("delete %s: %v, want the bus in use to stay", all, err)
		}
		c.Apply(eventBus("idle", `{embedded: {}}`))
		c.Kubectl("label", "eb", "idle", "idle=yes")
		c.Kubectl("delete", "--raw", all+"?labelSelector=idle")
		c.Kubectl("annotate", "eb", "default", "events.openfunction.io/force-delete=true")
		c.Kubectl("delete", "eb", "default", "--timeout=20s")
	})
	t.Run("settings that nobody could read are refused", func(t *testing.T) {
		_, err := c.Try("-n", "openfunction", "patch", "cm", "config-leader-election", "-p", `{"data": {"buckets": "11"}}`)
		if err := says(err, "buckets: value must be between"); err != nil {
			t.Error(err)
		}
	})
	t.Run("what was written before an upgrade says what to change", func(t *testing.T) {
		gateway := i.pods("openfunction", "app.kubernetes.io/component=gateway")
		i.in(t).upgrades()
		if got := i.pods("openfunction", "app.kubernetes.io/component=gateway"); got != gateway {
			t.Errorf("the shared gateway was %s and is %s", gateway, got)
		}
	})
}

// creates has the API server create an object as a dry run, as kubectl create does. There are hundreds, and a kubectl for each would take a minute.
func (i *installation) creates(document string) error {
	i.t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(document))
	if err != nil {
		i.t.Fatal(err)
	}
	var o unstructured.Unstructured
	if err := o.UnmarshalJSON(raw); err != nil {
		i.t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", i.Kubeconfig())
	if err != nil {
		i.t.Fatal(err)
	}
	config.WarningHandler = rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		i.t.Fatal(err)
	}
	resource, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
	namespace := cmp.Or(o.GetNamespace(), "default")
	if o.GetKind() == "ClusterEventBus" {
		namespace = ""
	}
	_, err = client.Resource(resource).Namespace(namespace).Create(i.t.Context(), &o, metav1.CreateOptions{
		DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
	})
	return err
}

func eventBus(name, spec string) string {
	return fmt.Sprintf("{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: %s}, spec: %s}", name, spec)
}

// kafkaSource is an EventSource with these fields of an event, and of its spec.
func kafkaSource(event string, spec ...string) string {
	return fmt.Sprintf("{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: warned}, spec: {%s}}",
		strings.Join(append(spec, "kafka: {orders: {brokers: \"k:9092\", authRequired: true, saslUsername: u, "+event+"}}"), ", "))
}

// refused creates an object as a dry run (apply would drop what is null first), and returns an error unless it is refused with the sentence.
func refused(c *servers.KubernetesCluster, document, want string) error {
	_, err := c.TryInput(document, "create", "--dry-run=server", "-f", "-")
	return says(err, want)
}

func says(err error, want string) error {
	switch {
	case err == nil:
		return fmt.Errorf("accepted, want %s", want)
	case !strings.Contains(err.Error(), want):
		return fmt.Errorf("got %w, want %s", err, want)
	}
	return nil
}

func eventually(t *testing.T, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no file matches %s (%v)", pattern, err)
	}
	return names
}
