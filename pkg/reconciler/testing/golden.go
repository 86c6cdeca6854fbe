package testing

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// Golden wants each file testdata/*.txt to say below the mark, a line, what build makes of the objects above. If it is to update, it
// writes that there.
func Golden(t *testing.T, mark string, update bool, build func(t *testing.T, input string) string) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, _, _ := strings.Cut(string(want), mark)
			got := input + mark + build(t, input)
			if update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want, +got; -update accepts it):\n%s", file, diff)
			}
		})
	}
}

// Objects reads YAML documents, and applies the defaults. What names no namespace is in default. The specs of the buses are by name, too.
func Objects(t *testing.T, text string) (o plan.Objects, buses map[string]*v1alpha1.EventBusSpec) {
	t.Helper()
	buses = map[string]*v1alpha1.EventBusSpec{}
	meta := metav1.ObjectMeta{Namespace: "default"}
	for doc := range strings.SplitSeq(text, "\n---\n") {
		var kind metav1.PartialObjectMetadata
		decode(t, doc, &kind)
		switch kind.Kind {
		case "EventSource":
			es := &v1alpha1.EventSource{ObjectMeta: meta}
			decode(t, doc, es)
			es.SetDefaults(t.Context())
			o.EventSources = append(o.EventSources, es)
		case "Trigger":
			tr := &v1alpha1.Trigger{ObjectMeta: meta}
			decode(t, doc, tr)
			tr.SetDefaults(t.Context())
			o.Triggers = append(o.Triggers, tr)
		case "EventBus":
			eb := &v1alpha1.EventBus{ObjectMeta: meta}
			decode(t, doc, eb)
			eb.SetDefaults(t.Context())
			o.EventBuses = append(o.EventBuses, eb)
			buses[eb.Name] = &eb.Spec
		case "ClusterEventBus":
			ceb := &v1alpha1.ClusterEventBus{}
			decode(t, doc, ceb)
			ceb.SetDefaults(t.Context())
			o.ClusterEventBuses = append(o.ClusterEventBuses, ceb)
			buses[ceb.Name] = &ceb.Spec
		}
	}
	return o, buses
}

func decode(t *testing.T, doc string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(doc), into); err != nil {
		t.Fatalf("%v in\n%s", err, doc)
	}
}

// YAML is what o looks like.
func YAML(t *testing.T, o *unstructured.Unstructured) string {
	t.Helper()
	o.DeepCopy() // which panics for what is not JSON
	data, err := yaml.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
