package crd

import (
	"maps"
	"slices"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/json"
)

// objects returns the paths of the objects in value whose fields the schema lists, the value itself included.
func objects(value any, s *schema.Structural, path []any) [][]any {
	if s == nil || s.XPreserveUnknownFields || len(path) == 1 && path[0] == "metadata" {
		return nil
	}
	var found [][]any
	switch value := value.(type) {
	case map[string]any:
		if len(s.Properties) > 0 {
			found = append(found, path)
		}
		for _, name := range slices.Sorted(maps.Keys(value)) {
			below, ok := s.Properties[name]
			if !ok && s.AdditionalProperties != nil {
				below = *s.AdditionalProperties.Structural
			}
			found = append(found, objects(value[name], &below, append(slices.Clone(path), name))...)
		}
	case []any:
		for i, item := range value {
			found = append(found, objects(item, s.Items, append(slices.Clone(path), i))...)
		}
	}
	return found
}

// at returns the object at a path that objects returned.
func at(value any, path []any) map[string]any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			value = value.(map[string]any)[step]
		case int:
			value = value.([]any)[step]
		}
	}
	return value.(map[string]any)
}

func encode(t *testing.T, u map[string]any) string {
	t.Helper()
	data, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
