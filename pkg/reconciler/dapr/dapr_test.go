package dapr_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/reconciler/dapr"
	. "github.com/openfunction/events/pkg/reconciler/testing"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

const (
	componentsMark = "-- components --\n"
	// includeMark, before a path in config, stands for the objects of a file that is shipped.
	includeMark = "# include "
)

// TestComponents reads the objects above the mark of each file, and wants their parts and Components below. The buses are for all of them.
func TestComponents(t *testing.T) { Golden(t, componentsMark, *update, build) }

func build(t *testing.T, input string) string {
	t.Helper()
	o, buses := Objects(t, included(t, input))
	var b strings.Builder
	for _, es := range o.EventSources {
		sink := ""
		if es.Spec.Sink != nil {
			sink = url(es.Spec.Sink)
		}
		write(t, &b, "EventSource "+es.Name, dapr.EventSourceParts(es), dapr.EventSource(es, buses[es.Spec.EventBus], sink))
	}
	for _, tr := range o.Triggers {
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
		b.WriteString("---\n" + YAML(t, c))
	}
}

// url resolves every sink but those of the name missing.
func url(d *v1alpha1.Sink) string {
	switch {
	case d.URIFrom != nil:
		return ""
	case d.Ref == nil:
		return d.URI.String()
	case d.Ref.Name == "missing":
		return ""
	}
	return "http://" + d.Ref.Name + "." + d.Ref.Namespace + ".svc.test" + d.URI.String()
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
		data, err := os.ReadFile(filepath.Join("../../../config", strings.TrimSpace(path)))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(strings.TrimSuffix(string(data), "\n") + "\n")
	}
	return b.String()
}
