package standalone

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// fault is what is wrong with one field.
type fault struct{ path, message string }

var (
	rawType         = reflect.TypeFor[runtime.RawExtension]()
	sinkType        = reflect.TypeFor[v1alpha1.Sink]()
	embeddedType    = reflect.TypeFor[*v1alpha1.EmbeddedSpec]()
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
)

// conform compares a value as JSON has it with the type that it shall become, and returns every field that the type does not have or
// that is of another type. It exists because decoding reports the first mistake only, and without an index or a map's key.
func conform(value any, t reflect.Type, path string) []fault {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if value == nil || t == rawType || t.Kind() == reflect.Interface {
		return nil
	}
	if reflect.PointerTo(t).Implements(unmarshalerType) {
		return conformCustom(value, t, path)
	}
	switch t.Kind() {
	case reflect.Struct:
		return conformStruct(value, t, path)
	case reflect.Map:
		m, ok := value.(map[string]any)
		if !ok {
			return mismatch(path, "a mapping", value)
		}
		return each(sortedKeys(m), func(key string) []fault {
			return conform(m[key], t.Elem(), path+"["+key+"]")
		})
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return conformCustom(value, t, path)
		}
		list, ok := value.([]any)
		if !ok {
			return mismatch(path, "a list", value)
		}
		var faults []fault
		for i, item := range list {
			faults = append(faults, conform(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))...)
		}
		return faults
	case reflect.String:
		if _, ok := value.(string); !ok {
			return mismatch(path, wantText(path, value), value)
		}
	case reflect.Bool:
		if _, ok := value.(bool); !ok {
			return mismatch(path, "true or false", value)
		}
	default:
		return conformNumber(value, t, path)
	}
	return nil
}

// wantText says how a text field is written, judged by what stands there instead.
func wantText(path string, value any) string {
	field := path[strings.LastIndexByte(path, '.')+1:]
	_, isList := value.([]any)
	_, isNumber := value.(int)
	switch {
	case isList && field == "brokers":
		return `a text with the brokers separated by commas, such as "a:9092,b:9092"`
	case isNumber && slices.Contains(durations, field):
		return fmt.Sprintf("a duration such as %vs", value)
	}
	return "text (in quotes)"
}

// durations are the fields of that type, which stand in the YAML as text.
var durations = []string{"window", "timeout", "backoffDelay", "ackWait", "ackWaitTime", "retention", "topicRetention", "syncInterval", "tolerance", "startAtTimeDelta"}

func conformStruct(value any, t reflect.Type, path string) []fault {
	m, ok := value.(map[string]any)
	if _, isText := value.(string); isText && t == sinkType {
		return mismatch(path, "a mapping such as {uri: http://server.default}", value)
	}
	if !ok {
		return mismatch(path, "a mapping", value)
	}
	fields := map[string]reflect.Type{}
	collect(t, fields)
	return each(sortedKeys(m), func(key string) []fault {
		at := join(path, key)
		field, ok := fields[key]
		if !ok {
			return []fault{{at, unknownField(key, fields)}}
		}
		switch {
		case m[key] != nil:
		case field == embeddedType:
			return []fault{{at, "is empty: write {}"}}
		case isObject(field) && path != "": // such as an auth whose body is commented out: nobody means no guard by it
			return []fault{{at, "is empty: write what is meant, or leave it out"}}
		}
		return conform(m[key], field, at)
	})
}

// isObject tells whether values of the type are objects of fields.
func isObject(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct && t != rawType && !reflect.PointerTo(t).Implements(unmarshalerType)
}

// collect gathers the fields of a struct by their JSON names, those of inlined structs too.
func collect(t reflect.Type, fields map[string]reflect.Type) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case name == "" && f.Anonymous:
			collect(f.Type, fields)
		case name == "":
			fields[f.Name] = f.Type
		default:
			fields[name] = f.Type
		}
	}
}

func conformNumber(value any, t reflect.Type, path string) []fault {
	switch value.(type) {
	case int, int64, uint64, float64:
		return conformCustom(value, t, path)
	}
	return mismatch(path, "a number", value)
}

// conformCustom lets the type decode the value itself.
func conformCustom(value any, t reflect.Type, path string) []fault {
	text, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(text, reflect.New(t).Interface())
	}
	if err != nil {
		message := strings.TrimPrefix(err.Error(), "json: ")
		if typeErr, ok := err.(*json.UnmarshalTypeError); ok {
			message = "want a value of type " + typeErr.Type.String()
		}
		return []fault{{path, fmt.Sprintf("%s: %s", describe(value), message)}}
	}
	return nil
}

func mismatch(path, want string, got any) []fault {
	return []fault{{path, fmt.Sprintf("want %s, got %s", want, describe(got))}}
}

func describe(value any) string {
	switch v := value.(type) {
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	case string:
		if len(v) > 40 {
			v = v[:40] + "..."
		}
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprint(value)
}

func unknownField(name string, fields map[string]reflect.Type) string {
	known := sortedKeys(fields)
	if near := plan.Nearest(name, known); near != "" {
		return fmt.Sprintf("unknown field; did you mean %q?", near)
	}
	if len(known) > 20 {
		return "unknown field"
	}
	return "unknown field (fields are " + strings.Join(known, ", ") + ")"
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func each(keys []string, check func(string) []fault) []fault {
	var faults []fault
	for _, k := range keys {
		faults = append(faults, check(k)...)
	}
	return faults
}
