package plan_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// notPlanned are the fields, with those below them, that no plan is made of.
var notPlanned = map[string]string{
	"EventSource.build":                    "documented as not used",
	"EventSource.logLevel":                 "the controller starts workloads with it",
	"EventSource.kafka.scaleOption":        "the controller makes a ScaledObject of it",
	"EventSource.mqtt.replicas":            "the controller makes that many workloads, and tells each which it is",
	"EventSource.mqtt.retain":              "for the Dapr Component",
	"EventSource.redis.idleCheckFrequency": "documented as not used",
	"EventBus.topic":                       "documented as not used",
	"EventBus.natsStreaming.scaleOption":   "the controller makes a ScaledObject of it",
	"EventBus.embedded.replicas":           "the controller makes a StatefulSet of it",
	"EventBus.embedded.storage":            "the controller makes a StatefulSet of it",
	"EventBus.embedded.storageClassName":   "the controller makes a StatefulSet of it",
	"Trigger.logLevel":                     "the controller starts workloads with it",
}

// The golden file every-field sets every field, and in no struct two of them alike: so its plan shows which field is read as which, and a field
// that somebody adds cannot be forgotten.
func TestEveryFieldIsInAGoldenFile(t *testing.T) {
	data, err := os.ReadFile("testdata/every-field.txt")
	if err != nil {
		t.Fatal(err)
	}
	input, _, _ := strings.Cut(string(data), planMark)
	specs := map[string]reflect.Type{
		"EventSource": reflect.TypeFor[v1alpha1.EventSourceSpec](), "EventBus": reflect.TypeFor[v1alpha1.EventBusSpec](), "Trigger": reflect.TypeFor[v1alpha1.TriggerSpec](),
	}
	written := map[string]string{} // values that are set, by field
	for doc := range strings.SplitSeq(input, "\n---\n") {
		var o struct {
			Kind string
			Spec json.RawMessage
		}
		decode(t, doc, &o)
		kind := strings.TrimPrefix(o.Kind, "Cluster")
		spec := reflect.New(specs[kind])
		d := json.NewDecoder(bytes.NewReader(o.Spec)) // without defaults: nobody wrote them
		d.DisallowUnknownFields()
		if err := d.Decode(spec.Interface()); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		alike := map[string]string{} // fields, by the struct that they are in and their value
		for _, l := range leaves(t, spec.Elem(), kind) {
			written[l.path] = l.value
			if kind != o.Kind {
				backend := strings.Split(l.path, ".")[1]
				written[o.Kind+"."+backend] = l.value
			}
			in := l.path[:strings.LastIndex(l.path, ".")] + " " + l.value
			if other, ok := alike[in]; ok && other != l.path && l.value != "true" {
				t.Errorf("%s and %s are both %s in\n%s", other, l.path, l.value, doc)
			}
			alike[in] = l.path
		}
	}
	var want []string
	for kind, spec := range specs {
		want = append(want, fields(spec, kind)...)
	}
	for _, backend := range []string{"natsStreaming", "jetStream", "kafka", "embedded"} {
		want = append(want, "ClusterEventBus."+backend)
	}
	used := map[string]bool{}
	for _, path := range want {
		exception := path
		for exception != "" && notPlanned[exception] == "" {
			exception = exception[:max(0, strings.LastIndex(exception, "."))]
		}
		used[exception] = true
		if exception == "" && written[path] == "" {
			t.Errorf("%s is not in testdata/every-field.txt: set it there, and see what it becomes in the plan; or say in notPlanned why no plan is made of it", path)
		}
	}
	for _, exception := range slices.Sorted(maps.Keys(notPlanned)) {
		if !used[exception] {
			t.Errorf("there is no field %s: take it out of notPlanned", exception)
		}
	}
}

// leafType tells whether a value is written as one: its fields, if it has any, are not ours, or it refers to a Secret.
func leafType(t reflect.Type) bool {
	t = element(t)
	return t == keyRef.Elem() || t.Kind() != reflect.Struct || !ours(t)
}

func element(t reflect.Type) reflect.Type {
	for slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Map, reflect.Slice}, t.Kind()) {
		t = t.Elem()
	}
	return t
}

// fields are the paths of all leaves that a type can have.
func fields(t reflect.Type, path string) (all []string) {
	if leafType(t) {
		return []string{path}
	}
	t = element(t)
	for i := range t.NumField() {
		all = append(all, fields(t.Field(i).Type, below(path, t.Field(i)))...)
	}
	return all
}

// leaf is a field that is set, with its value as JSON.
type leaf struct{ path, value string }

// leaves are those that v has.
func leaves(t *testing.T, v reflect.Value, path string) (all []leaf) {
	t.Helper()
	switch {
	case v.IsZero():
	case leafType(v.Type()):
		return []leaf{{path, marshal(t, v.Interface())}}
	case v.Kind() == reflect.Pointer:
		return leaves(t, v.Elem(), path)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			all = append(all, leaves(t, v.Field(i), below(path, v.Type().Field(i)))...)
		}
	case v.Kind() == reflect.Map:
		for _, key := range v.MapKeys() {
			all = append(all, leaves(t, v.MapIndex(key), path)...)
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			all = append(all, leaves(t, v.Index(i), path)...)
		}
	}
	return all
}
