package v1alpha1

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis"
	"sigs.k8s.io/yaml"
)

// object is what admission sees.
type object interface {
	runtime.Object
	apis.Defaultable
	apis.Validatable
}

// decode reads one document, and refuses fields that the kind does not have.
func decode(t *testing.T, document string) object {
	t.Helper()
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(document), &meta); err != nil {
		t.Fatalf("read the kind: %v", err)
	}
	kinds := map[string]object{
		"EventSource": &EventSource{}, "EventBus": &EventBus{}, "ClusterEventBus": &ClusterEventBus{}, "Trigger": &Trigger{},
	}
	o, ok := kinds[meta.Kind]
	if !ok {
		t.Fatalf("kind %q is not ours", meta.Kind)
	}
	if err := yaml.UnmarshalStrict([]byte(document), o); err != nil {
		t.Fatalf("decode %s: %v", meta.Kind, err)
	}
	return o
}

// admit defaults and validates, as admission does on creation.
func admit(o object) []Problem {
	ctx := apis.WithinCreate(context.Background())
	o.SetDefaults(ctx)
	return Flatten(o.Validate(ctx))
}

// comments returns what follows "# word: " in the lines that have it.
func comments(document, word string) []string {
	var found []string
	for line := range strings.Lines(document) {
		if text, ok := strings.CutPrefix(line, "# "+word+": "); ok {
			found = append(found, strings.TrimSpace(text))
		}
	}
	return found
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no file matches %s (%v)", pattern, err)
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestManifests admits the files of testdata. Each one of testdata/invalid has one mistake.
func TestManifests(t *testing.T) {
	for _, name := range files(t, "testdata/*/*.yaml") {
		t.Run(strings.TrimPrefix(name, "testdata/"), func(t *testing.T) {
			text := read(t, name)
			var errs, warnings []string
			for _, p := range admit(decode(t, text)) {
				if p.Warning {
					warnings = append(warnings, p.String())
				} else {
					errs = append(errs, p.String())
				}
			}
			want := comments(text, "want")
			if diff := cmp.Diff(errs, want); diff != "" {
				t.Errorf("errors (-got +want):\n%s", diff)
			}
			if diff := cmp.Diff(warnings, comments(text, "warn")); diff != "" {
				t.Errorf("warnings (-got +want):\n%s", diff)
			}
			if invalid := strings.Contains(name, "/invalid/"); invalid != (len(want) > 0) {
				t.Errorf("the file says %d errors: the invalid ones have some, the others none", len(want))
			}
		})
	}
}

func TestSamplesAreAcceptedVerbatim(t *testing.T) {
	for _, name := range files(t, "../../../../config/samples/sample-*.yaml") {
		for i, document := range strings.Split(read(t, name), "\n---\n") {
			t.Run(fmt.Sprintf("%s/%d", filepath.Base(name), i), func(t *testing.T) {
				if problems := admit(decode(t, document)); problems != nil {
					t.Errorf("problems = %v, want none", problems)
				}
			})
		}
	}
}

// TestDefaultingTwiceChangesNothing runs over everything that is decodable, right or wrong.
func TestDefaultingTwiceChangesNothing(t *testing.T) {
	names := slices.Concat(files(t, "testdata/*/*.yaml"), files(t, "../../../../config/samples/sample-*.yaml"))
	for _, name := range names {
		for document := range strings.SplitSeq(read(t, name), "\n---\n") {
			once := decode(t, document)
			once.SetDefaults(context.Background())
			twice := once.DeepCopyObject().(object)
			twice.SetDefaults(context.Background())
			if diff := cmp.Diff(once, twice, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
				t.Errorf("%s (-once +twice):\n%s", name, diff)
			}
		}
	}
}

// TestMostEvents takes the one event that is too many from the file that has it.
func TestMostEvents(t *testing.T) {
	es := decode(t, read(t, "testdata/invalid/eventsource-too-many-events.yaml")).(*EventSource)
	es.Spec.Cron = nil
	if got := admit(es); len(es.Spec.HTTP) != maxEvents || got != nil {
		t.Errorf("%d events: %v, want %d to be right", len(es.Spec.HTTP), got, maxEvents)
	}
}
