package keda_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/keda"
	. "github.com/openfunction/events/pkg/reconciler/testing"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

const mark = "-- scaled objects --\n"

// TestGolden reads the objects above the mark of each file, and wants the sentences and ScaledObjects below.
func TestGolden(t *testing.T) { Golden(t, mark, *update, build) }

// TestSamplesAreNotScaled since none of them has a scaleOption.
func TestSamplesAreNotScaled(t *testing.T) {
	files, err := filepath.Glob("../../../config/samples/sample-*.yaml")
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
	o, buses := Objects(t, input)
	p := compile(o)
	var b strings.Builder
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

func compile(o plan.Objects) *plan.Plan {
	p, _ := plan.Compile(o, plan.Options{
		Resolve: func(*duckv1.Destination, string) (*plan.Target, error) {
			return &plan.Target{URL: "http://sink.test"}, nil
		},
		Secret: func(string, string, string) (string, error) { return "secret", nil },
	})
	return p
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
	b.WriteString(YAML(t, scaled))
}
