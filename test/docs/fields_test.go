package docs

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// TestFieldsAreDocumented wants every field that a spec can have to be named on the page of its kind, as code.
func TestFieldsAreDocumented(t *testing.T) {
	for name, spec := range map[string]reflect.Type{
		"docs/spec/eventsource.md": reflect.TypeFor[v1alpha1.EventSourceSpec](),
		"docs/spec/eventbus.md":    reflect.TypeFor[v1alpha1.EventBusSpec](),
		"docs/spec/trigger.md":     reflect.TypeFor[v1alpha1.TriggerSpec](),
	} {
		p := page{name, read(t, name)}
		named := words(p.withoutBlocks())
		fields := map[string][]string{}
		collect(spec, "spec", fields)
		if len(fields) < 10 {
			t.Errorf("%s has only %d fields", spec, len(fields))
		}
		for field, paths := range fields {
			if !slices.Contains(named, field) {
				t.Errorf("%s does not name the field `%s` (%s)", name, field, strings.Join(paths, ", "))
			}
		}
	}
}

var (
	code = regexp.MustCompile("`[^`\n]+`")
	word = regexp.MustCompile(`[A-Za-z][A-Za-z0-9]*`)
)

// words are those that a text sets as code.
func words(text string) []string {
	var all []string
	for _, span := range code.FindAllString(text, -1) {
		all = append(all, word.FindAllString(span, -1)...)
	}
	return all
}

var (
	raw         = reflect.TypeFor[runtime.RawExtension]()
	unmarshaler = reflect.TypeFor[json.Unmarshaler]()
)

// collect gathers the JSON names of the fields of a type, and where each occurs.
func collect(t reflect.Type, path string, into map[string][]string) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		collect(t.Elem(), path, into)
		return
	case reflect.Struct:
	default:
		return
	}
	if t == raw || reflect.PointerTo(t).Implements(unmarshaler) {
		return
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" && f.Anonymous {
			collect(f.Type, path, into)
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		at := path + "." + name
		into[name] = append(into[name], at)
		collect(f.Type, at, into)
	}
}
