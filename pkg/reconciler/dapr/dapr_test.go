package dapr_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"sigs.k8s.io/yaml"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/reconciler/dapr"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

const (
	componentsMark = "-- components --\n"
	// includeMark, before a path, stands for the objects of a file that is shipped.
	includeMark = "# include "
)

// TestComponents reads the objects above the mark of each file, and wants their parts and Components below. The buses are for all of them.
func TestComponents(t *testing.T) {
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
			input, _, _ := strings.Cut(string(want), componentsMark)
			got := input + golden(t, input)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(want), got); diff != "" && !*update {
				t.Errorf("components (-want, +got; -update accepts it):\n%s", diff)
			}
		})
	}
}

func golden(t *testing.T, input string) string {
	t.Helper()
	eventSources, triggers, buses := load(t, input)
	var b strings.Builder
	b.WriteString(componentsMark)
	for _, es := range eventSources {
		sink := ""
		if es.Spec.Sink != nil {
			sink = url(es.Spec.Sink)
		}
		write(t, &b, "EventSource "+es.Name, dapr.EventSourceParts(es), dapr.EventSource(es, buses[es.Spec.EventBus], sink))
	}
	for _, tr := range triggers {
		write(t, &b, "Trigger "+tr.Name, dapr.TriggerParts(tr), dapr.Trigger(tr, buses[tr.Spec.EventBus], url))
	}
	return b.String()
}

// write writes the names of the parts, and below them the Components.
func write(t *testing.T, b *strings.Builder, owner string, parts []dapr.Part, components []*unstructured.Unstructured) {
	t.Helper()
	fmt.Fprintf(b, "# %s\n", owner)
	names := map[string]bool{}
	for _, p := range parts {
		if names[p.Name] || len(validation.IsDNS1123Subdomain(p.Name)) > 0 {
			t.Errorf("%s: the name %q is not one of its own, or none at all", owner, p.Name)
		}
		names[p.Name] = true
		fmt.Fprintf(b, "#   %s\n", p.Name)
	}
	for _, c := range components {
		if !names[c.GetName()] {
			t.Errorf("%s: the Component %q is of no part", owner, c.GetName())
		}
		c.DeepCopy() // which panics for what is not JSON
		data, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("---\n" + string(data))
	}
}

// url resolves every sink but those of the name missing.
func url(d *duckv1.Destination) string {
	switch {
	case d.Ref == nil:
		return d.URI.String()
	case d.Ref.Name == "missing":
		return ""
	}
	return "http://" + d.Ref.Name + "." + d.Ref.Namespace + ".svc.test" + d.URI.String()
}

// load reads YAML documents, and applies the defaults. The buses are by name.
func load(t *testing.T, text string) (eventSources []*v1alpha1.EventSource, triggers []*v1alpha1.Trigger, buses map[string]*v1alpha1.EventBusSpec) {
	t.Helper()
	buses = map[string]*v1alpha1.EventBusSpec{}
	for doc := range strings.SplitSeq(included(t, text), "\n---\n") {
		var o metav1.PartialObjectMetadata
		decode(t, doc, &o)
		switch o.Kind {
		case "EventSource":
			es := &v1alpha1.EventSource{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}}
			decode(t, doc, es)
			es.SetDefaults(t.Context())
			eventSources = append(eventSources, es)
		case "Trigger":
			tr := &v1alpha1.Trigger{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}}
			decode(t, doc, tr)
			tr.SetDefaults(t.Context())
			triggers = append(triggers, tr)
		case "EventBus", "ClusterEventBus":
			var eb v1alpha1.EventBus
			decode(t, doc, &eb)
			eb.SetDefaults(t.Context())
			buses[eb.Name] = &eb.Spec
		}
	}
	return eventSources, triggers, buses
}

func included(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(text) {
		path, ok := strings.CutPrefix(line, includeMark)
		if !ok {
			b.WriteString(line)
			continue
		}
		data, err := os.ReadFile(filepath.Join("testdata", strings.TrimSpace(path)))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(strings.TrimSuffix(string(data), "\n") + "\n")
	}
	return b.String()
}

func decode(t *testing.T, doc string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(doc), into); err != nil {
		t.Fatalf("%v in\n%s", err, doc)
	}
}
