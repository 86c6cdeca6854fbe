package webhook

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	_ "time/tzdata"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/configmap"
	rtesting "knative.dev/pkg/reconciler/testing"
	_ "knative.dev/pkg/system/testing"
	kwebhook "knative.dev/pkg/webhook"
	"sigs.k8s.io/yaml"

	_ "knative.dev/pkg/client/injection/kube/informers/admissionregistration/v1/mutatingwebhookconfiguration/fake"
	_ "knative.dev/pkg/client/injection/kube/informers/admissionregistration/v1/validatingwebhookconfiguration/fake"
	_ "knative.dev/pkg/injection/clients/namespacedkube/informers/core/v1/secret/fake"

	"github.com/openfunction/events/pkg/apis/config"
	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	_ "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/clustereventbus/fake"
	_ "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventbus/fake"
	_ "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventsource/fake"
	_ "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/trigger/fake"
)

const testdata = "../apis/events/v1alpha1/testdata/"

// server asks admission as an API server does: for defaults first, then whether the result may be.
type server struct {
	ctx                            context.Context
	defaulting, validation, config kwebhook.AdmissionController
}

// newServer answers with the settings of config-defaults that are given as keys and values.
func newServer(t *testing.T, defaults ...string) *server {
	t.Helper()
	ctx, _ := rtesting.SetupFakeContext(t)
	ctx = kwebhook.WithOptions(ctx, kwebhook.Options{ServiceName: "events-webhook", SecretName: "events-webhook-certs"})
	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: config.DefaultsName}, Data: map[string]string{}}
	for i := 0; i < len(defaults); i += 2 {
		settings.Data[defaults[i]] = defaults[i+1]
	}
	watcher := configmap.NewStaticWatcher(settings)
	return &server{
		ctx:        ctx,
		defaulting: NewDefaulting(ctx, watcher).Reconciler.(kwebhook.AdmissionController),
		validation: NewValidation(ctx, watcher).Reconciler.(kwebhook.AdmissionController),
		config:     NewConfig(ctx, watcher).Reconciler.(kwebhook.AdmissionController),
	}
}

// admit returns the object with its defaults, and the answer. A nil old one means creation.
func (s *server) admit(t *testing.T, old, o []byte, subresource string) ([]byte, *admissionv1.AdmissionResponse) {
	t.Helper()
	request := newRequest(t, o)
	request.SubResource = subresource
	if old != nil {
		request.Operation, request.OldObject.Raw = admissionv1.Update, old
	}
	response := s.defaulting.Admit(s.ctx, request)
	if !response.Allowed {
		t.Fatalf("defaulting: %s", response.Result.Message)
	}
	if response.Patch != nil {
		patch, err := jsonpatch.DecodePatch(response.Patch)
		if err != nil {
			t.Fatal(err)
		}
		if request.Object.Raw, err = patch.Apply(o); err != nil {
			t.Fatalf("apply %s: %v", response.Patch, err)
		}
	}
	return request.Object.Raw, s.validation.Admit(s.ctx, request)
}

func newRequest(t *testing.T, o []byte) *admissionv1.AdmissionRequest {
	t.Helper()
	var meta metav1.PartialObjectMetadata
	if err := json.Unmarshal(o, &meta); err != nil {
		t.Fatal(err)
	}
	return &admissionv1.AdmissionRequest{
		Operation: admissionv1.Create,
		Kind:      metav1.GroupVersionKind(schema.FromAPIVersionAndKind(v1alpha1.SchemeGroupVersion.String(), meta.Kind)),
		Name:      meta.Name, Namespace: meta.Namespace,
		Object: runtime.RawExtension{Raw: o},
	}
}

// documents returns those of our group in the files that match, as JSON, by a name for each.
func documents(t *testing.T, patterns ...string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	for _, pattern := range patterns {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("no file matches %s (%v)", pattern, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for i, document := range strings.Split(string(text), "\n---\n") {
				if strings.Contains(document, "apiVersion: "+v1alpha1.SchemeGroupVersion.String()) {
					found[filepath.Base(name)+strings.Repeat("'", i)] = toJSON(t, document)
				}
			}
		}
	}
	return found
}

func toJSON(t *testing.T, document string) []byte {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// offline returns the object as it is stored, and what `events validate` says of it with all defaults.
func offline(t *testing.T, data []byte) (any, []v1alpha1.Problem) {
	t.Helper()
	o, ok := newObject(newRequest(t, data).Kind)
	if !ok {
		t.Fatalf("not ours: %s", data)
	}
	if err := json.Unmarshal(data, o); err != nil {
		t.Fatal(err)
	}
	ctx := apis.WithinCreate(context.Background())
	stored := o.DeepCopyObject().(apis.Defaultable)
	stored.SetDefaults(v1alpha1.Stored(ctx))
	o.SetDefaults(ctx)
	return stored, v1alpha1.Flatten(o.Validate(ctx))
}

func sentences(problems []v1alpha1.Problem, warnings bool) []string {
	var found []string
	for _, p := range problems {
		if p.Warning == warnings {
			found = append(found, p.String())
		}
	}
	return found
}

func TestWrongObjectsAreRefusedInTheSameWords(t *testing.T) {
	s := newServer(t)
	for name, data := range documents(t, testdata+"invalid/*.yaml") {
		t.Run(name, func(t *testing.T) {
			_, problems := offline(t, data)
			_, response := s.admit(t, nil, data, "")
			if response.Allowed {
				t.Fatalf("allowed, want %v", problems)
			}
			if diff := cmp.Diff(response.Result.Message, strings.Join(sentences(problems, false), "\n")); diff != "" {
				t.Errorf("message (-in the cluster +offline):\n%s", diff)
			}
			if diff := cmp.Diff(response.Warnings, sentences(problems, true)); diff != "" {
				t.Errorf("warnings (-in the cluster +offline):\n%s", diff)
			}
			var causes []string
			for _, c := range response.Result.Details.Causes {
				causes = append(causes, c.Field+": "+c.Message)
			}
			if diff := cmp.Diff(causes, sentences(problems, false)); diff != "" || response.Result.Code != 422 {
				t.Errorf("causes with code %d (-in the cluster +offline):\n%s", response.Result.Code, diff)
			}
		})
	}
}

func TestRightObjectsAreAdmittedAndDefaulted(t *testing.T) {
	s := newServer(t)
	for name, data := range documents(t, testdata+"valid/*.yaml", "../../config/samples/*.yaml", "../../docs/examples/*.yaml") {
		t.Run(name, func(t *testing.T) {
			want, problems := offline(t, data)
			defaulted, response := s.admit(t, nil, data, "")
			if !response.Allowed {
				t.Fatalf("refused: %s", response.Result.Message)
			}
			if diff := cmp.Diff(response.Warnings, sentences(problems, true)); diff != "" {
				t.Errorf("warnings (-in the cluster +offline):\n%s", diff)
			}
			expected, err := json.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			if !jsonpatch.Equal(defaulted, expected) {
				t.Errorf("defaulted:\n got %s\nwant %s", defaulted, expected)
			}
			again, response := s.admit(t, defaulted, defaulted, "")
			if !jsonpatch.Equal(again, defaulted) || !response.Allowed {
				t.Errorf("admitting it again changes it to %s (%v)", again, response.Result)
			}
		})
	}
}
