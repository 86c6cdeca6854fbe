package standalone

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// fault is what is wrong with one field.
type fault struct{ path, message string }

var (
	rawType         = reflect.TypeFor[runtime.RawExtension]()
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
			return mismatch(path, "text (in quotes)", value)
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

func conformStruct(value any, t reflect.Type, path string) []fault {
	m, ok := value.(map[string]any)
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
		return conform(m[key], field, at)
	})
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
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("unknown field; did you mean %q?", near)
	}
	if len(known) > 12 {
		return "unknown field"
	}
	return "unknown field (fields are " + strings.Join(known, ", ") + ")"
}

// nearest returns the candidate that a typing mistake may have been meant to be, or nothing.
func nearest(name string, candidates []string) string {
	best, bestDistance := "", 1+max(1, len(name)/3)
	for _, c := range candidates {
		if strings.EqualFold(c, name) {
			return c
		}
		if d := distance(strings.ToLower(name), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the number of letters to insert, drop or replace to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func each(keys []string, check func(string) []fault) []fault {
	var faults []fault
	for _, k := range keys {
		faults = append(faults, check(k)...)
	}
	return faults
}
