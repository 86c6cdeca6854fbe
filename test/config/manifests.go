package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

const root = "../../"

// documents are those of the files, one after the other.
func documents(t testing.TB, files ...string) []*unstructured.Unstructured {
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
func shipped(t testing.TB) []*unstructured.Unstructured {
	t.Helper()
	files, err := filepath.Glob(root + "config/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("config has %d files (%v)", len(files), err)
	}
	return documents(t, files...)
}

// list returns the shipped objects of a type, by name.
func list[T any](t testing.TB) map[string]*T {
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

// kinds are those that Kubernetes itself has.
var kinds = sync.OnceValue(func() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(errors.Join(scheme.AddToScheme(s), apiextensionsv1.AddToScheme(s)))
	return s
})

// decode refuses fields that the kind does not have.
func decode(t testing.TB, o *unstructured.Unstructured) any {
	t.Helper()
	typed, err := kinds().New(o.GroupVersionKind())
	if err != nil {
		t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, typed, true); err != nil {
		t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
	}
	return typed
}
