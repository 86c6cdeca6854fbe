package config

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/sets"
)

func id(o *unstructured.Unstructured) string {
	return fmt.Sprintf("%s %s", o.GetKind(), o.GetName())
}

// TestEverything is about all documents, whatever they are.
func TestEverything(t *testing.T) {
	seen := sets.New[string]()
	for _, o := range shipped(t) {
		decode(t, o)
		if seen.Has(id(o)) {
			t.Errorf("%s is there twice", id(o))
		}
		if o.GetLabels()["app.kubernetes.io/name"] != "openfunction-events" {
			t.Errorf("%s is not labelled as ours", id(o))
		}
		if namespace := o.GetNamespace(); namespace != "" && (namespace != "openfunction" || !seen.Has("Namespace openfunction")) {
			t.Errorf("%s is applied to the namespace %s, which is not there before it", id(o), namespace)
		}
		// What an object needs to begin its work comes before it.
		if o.GetKind() == "Deployment" {
			for _, kind := range []string{"ServiceAccount ", "RoleBinding ", "NetworkPolicy "} {
				if !seen.Has(kind + o.GetName()) {
					t.Errorf("%s is applied before %s%s", id(o), kind, o.GetName())
				}
			}
		}
		// Deleting what is shipped must not ask admission, which may be gone by then.
		if strings.HasPrefix(o.GetAPIVersion(), "events.openfunction.io/") {
			t.Errorf("%s: its deletion may be refused", id(o))
		}
		if len(o.GetFinalizers()) > 0 {
			t.Errorf("%s: its finalizers %v hold up its deletion", id(o), o.GetFinalizers())
		}
		seen.Insert(id(o))
	}
}
