package crd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	"knative.dev/pkg/apis"
	"sigs.k8s.io/yaml"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

const (
	definitions = "../../config/300-*.yaml"
	testdata    = "../../pkg/apis/events/v1alpha1/testdata/"
)

// object is what admission sees.
type object interface {
	runtime.Object
	apis.Defaultable
	apis.Validatable
}

// server does to objects what an API server with our definitions does.
type server map[string]*kind

type kind struct {
	definition apiextensionsv1.CustomResourceDefinition
	structural *schema.Structural
	validator  validation.SchemaValidator
}

// newServer loads what config/ ships, as an API server that is asked to create it does.
func newServer(t *testing.T) server {
	t.Helper()
	s := server{}
	for _, name := range files(t, definitions) {
		k := &kind{}
		if err := yaml.UnmarshalStrict(read(t, name), &k.definition); err != nil {
			t.Fatalf("decode %s: %v", name, err)
		}
		apiextensionsv1.SetDefaults_CustomResourceDefinition(&k.definition)
		apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&k.definition.Spec)
		var internal apiextensions.CustomResourceDefinition
		if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&k.definition, &internal, nil); err != nil {
			t.Fatalf("convert %s: %v", name, err)
		}
		internal.Status.StoredVersions = []string{"v1alpha1"}
		if errs := crdvalidation.ValidateCustomResourceDefinition(context.Background(), &internal); len(errs) > 0 {
			t.Fatalf("create %s: %v", name, errs.ToAggregate())
		}
		props := internal.Spec.Validation.OpenAPIV3Schema
		var err error
		if k.structural, err = schema.NewStructural(props); err != nil {
			t.Fatalf("%s is not structural: %v", name, err)
		}
		if k.validator, _, err = validation.NewSchemaValidator(props); err != nil {
			t.Fatalf("validator of %s: %v", name, err)
		}
		s[internal.Spec.Names.Kind] = k
	}
	return s
}

// receive decodes a document. It returns the paths of the fields that the kind does not have, which are gone from the object.
func (s server) receive(t *testing.T, document string) (u map[string]any, unknown []string) {
	t.Helper()
	u = parse(t, document)
	k := s.kind(t, u)
	unknown = pruning.PruneWithOptions(u, k.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	defaulting.PruneNonNullableNullsWithoutDefaults(u, k.structural)
	return u, unknown
}

// mutate does what our admission does to an object before the server looks at it: the types read it, default it and write it.
func (s server) mutate(t *testing.T, u map[string]any) (object, map[string]any) {
	t.Helper()
	o := typed(t, u)
	o.SetDefaults(apis.WithinCreate(context.Background()))
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return o, parse(t, string(data))
}

// check returns what the schema has to say.
func (s server) check(t *testing.T, u map[string]any) error {
	t.Helper()
	return validation.ValidateCustomResource(nil, u, s.kind(t, u).validator).ToAggregate()
}

func (s server) kind(t *testing.T, u map[string]any) *kind {
	t.Helper()
	k, ok := s[fmt.Sprint(u["kind"])]
	if !ok {
		t.Fatalf("kind %v is not ours", u["kind"])
	}
	return k
}

func typed(t *testing.T, u map[string]any) object {
	t.Helper()
	kinds := map[any]object{
		"EventSource": &v1alpha1.EventSource{}, "EventBus": &v1alpha1.EventBus{}, "ClusterEventBus": &v1alpha1.ClusterEventBus{}, "Trigger": &v1alpha1.Trigger{},
	}
	data, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	o := kinds[u["kind"]]
	if err := json.Unmarshal(data, o); err != nil {
		t.Fatalf("decode %v: %v", u["kind"], err)
	}
	return o
}

func parse(t *testing.T, document string) map[string]any {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	var u map[string]any
	if err := json.Unmarshal(data, &u); err != nil { // This one keeps integers.
		t.Fatal(err)
	}
	return u
}

// documents returns those of our group in the files that match, by a name for each.
func documents(t *testing.T, patterns ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range patterns {
		for _, name := range files(t, pattern) {
			for i, document := range strings.Split(string(read(t, name)), "\n---\n") {
				if strings.Contains(document, "apiVersion: "+v1alpha1.SchemeGroupVersion.String()) {
					found[fmt.Sprintf("%s/%d", filepath.Base(name), i)] = document
				}
			}
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

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
