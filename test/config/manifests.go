package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

const root = "../../"

// documents are those of the files, one after the other.
func documents(t *testing.T, files ...string) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, document := range strings.Split(string(text), "\n---\n") {
			o := &unstructured.Unstructured{}
			if err := yaml.UnmarshalStrict([]byte(document), &o.Object); err != nil || o.GetName() == "" {
				t.Fatalf("%s: document %d: %v %v", file, i+1, err, o.Object)
			}
			all = append(all, o)
		}
	}
	return all
}

// shipped are the documents of config/, in the order in which kubectl applies them.
func shipped(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	files, err := filepath.Glob(root + "config/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("config has %d files (%v)", len(files), err)
	}
	return documents(t, files...)
}

// list returns the shipped objects of a type, by name.
func list[T any](t *testing.T) map[string]*T {
	t.Helper()
	all := map[string]*T{}
	for _, o := range shipped(t) {
		typed := decode(t, o)
		if _, ok := typed.(*T); ok {
			all[o.GetName()] = typed.(*T)
		}
	}
	if len(all) == 0 {
		t.Fatalf("config has no %T", *new(T))
	}
	return all
}

// decode refuses fields that the kind does not have.
func decode(t *testing.T, o *unstructured.Unstructured) any {
	t.Helper()
	s := runtime.NewScheme()
	if err := scheme.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	if err := apiextensionsv1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	typed, err := s.New(o.GroupVersionKind())
	if err != nil {
		t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, typed, true); err != nil {
		t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
	}
	return typed
}

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
