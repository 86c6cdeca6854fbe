package standalone

import (
	"fmt"
	"strings"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

func newResource(kind string) resource {
	switch kind {
	case "EventSource":
		return &v1alpha1.EventSource{}
	case "EventBus":
		return &v1alpha1.EventBus{}
	case "ClusterEventBus":
		return &v1alpha1.ClusterEventBus{}
	case "Trigger":
		return &v1alpha1.Trigger{}
	}
	return nil
}

func title(kind string, fields map[string]any) string {
	metadata, _ := fields["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	namespace, _ := metadata["namespace"].(string)
	switch {
	case name == "":
		return kind
	case kind == "ClusterEventBus":
		namespace = ""
	case namespace == "":
		namespace = defaultNamespace
	}
	return objectName(kind, namespace, name)
}

func objectName(kind, namespace, name string) string {
	if namespace == "" {
		return kind + " " + name
	}
	return kind + " " + namespace + "/" + name
}

// notAnObject says what of an object's beginning is missing.
func notAnObject(fields map[string]any) string {
	var missing []string
	for _, name := range []string{"apiVersion", "kind"} {
		switch value, ok := fields[name]; {
		case !ok || value == nil || value == "":
			missing = append(missing, name)
		default:
			if _, ok := value.(string); !ok {
				return fmt.Sprintf("%s: want text (in quotes), got %s", name, describe(value))
			}
		}
	}
	if len(missing) == 2 {
		return "apiVersion and kind are missing: want, for example, apiVersion: " + ourVersion + " and kind: Trigger"
	}
	if missing[0] == "kind" {
		return "kind is missing: want, for example, kind: Trigger"
	}
	return "apiVersion is missing: want, for example, apiVersion: " + ourVersion
}

// Nothing says that the files declare none of our objects, and what they do declare.
func (c *Config) Nothing() string {
	message := "no EventSource, EventBus, ClusterEventBus or Trigger there"
	if ignored := c.ignored(); ignored != "" {
		message += ", only " + ignored
	}
	return message
}

// ignored counts the objects of other kinds.
func (c *Config) ignored() string {
	var parts []string
	for _, kind := range sortedKeys(c.Ignored) {
		parts = append(parts, fmt.Sprintf("%d %s", c.Ignored[kind], kind))
	}
	return strings.Join(parts, ", ")
}
