package keda_test

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
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"sigs.k8s.io/yaml"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/keda"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

const mark = "-- scaled objects --\n"

// TestGolden reads the objects above the mark of each file, and wants the sentences and ScaledObjects below.
func TestGolden(t *testing.T) {
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
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(want), got); diff != "" && !*update {
				t.Errorf("ScaledObjects (-want, +got; -update accepts it):\n%s", diff)
			}
		})
	}
}

// TestSamplesAreNotScaled since none of them has a scaleOption.
func TestSamplesAreNotScaled(t *testing.T) {
	files, err := filepath.Glob("testdata/samples/sample-*.yaml")
	if err != nil || len(files) != 5 {
		t.Fatalf("got %d samples (%v), want 5", len(files), err)
	}
	for _, file := range files {
		input, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := build(t, string(input)); strings.Contains(got, "ScaledObject") || strings.Contains(got, " it ") {
			t.Errorf("%s is scaled:\n%s", file, got)
		}
	}
}

// build builds what there is for every kafka event and every Trigger of the input.
func build(t *testing.T, input string) string {
	t.Helper()
	var o plan.Objects
	var b strings.Builder
	buses := map[string]*v1alpha1.EventBusSpec{}
	for doc := range strings.SplitSeq(input, "\n---\n") {
		meta := metav1.ObjectMeta{Namespace: "default"}
		var kind metav1.PartialObjectMetadata
		decode(t, doc, &kind)
		switch kind.Kind {
		case "EventSource":
			es := &v1alpha1.EventSource{ObjectMeta: meta}
			decode(t, doc, es)
			es.SetDefaults(t.Context())
			o.EventSources = append(o.EventSources, es)
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
		case "Trigger":
			tr := &v1alpha1.Trigger{ObjectMeta: meta}
			decode(t, doc, tr)
			tr.SetDefaults(t.Context())
			o.Triggers = append(o.Triggers, tr)
		}
	}
	p, _ := plan.Compile(o, plan.Options{
		Resolve: func(*duckv1.Destination, string) (*plan.Target, error) {
			return &plan.Target{URL: "http://sink.test"}, nil
		},
		Secret: func(string, string, string) (string, error) { return "secret", nil },
	})
	for _, es := range o.EventSources {
		for event := range es.Spec.Kafka {
			write(t, &b, "EventSource "+es.Name, keda.EventSource(es, event, "eventsource-"+es.Name+"-kafka-"+event), "")
		}
	}
	for _, tr := range o.Triggers {
		scaled, note := keda.Trigger(tr, buses[tr.Spec.EventBus], p, "trigger-"+tr.Name)
		write(t, &b, "Trigger "+tr.Name, scaled, note)
	}
	return b.String()
}

func write(t *testing.T, b *strings.Builder, owner string, scaled *unstructured.Unstructured, note string) {
	t.Helper()
	fmt.Fprintf(b, "---\n# %s\n", owner)
	if note != "" {
		fmt.Fprintf(b, "# %s\n", note)
	}
	if scaled == nil {
		return
	}
	scaled.DeepCopy() // which panics for what is not JSON
	data, err := yaml.Marshal(scaled)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(data)
}

func decode(t *testing.T, doc string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(doc), into); err != nil {
		t.Fatalf("%v in\n%s", err, doc)
	}
}
