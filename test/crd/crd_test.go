package crd

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

func TestNamesAndColumns(t *testing.T) {
	work := []string{"Status", "Components", "Workloads", "Age", "Reason (wide)", "Message (wide)"}
	bus := []string{"Status", "Users", "Age", "Reason", "Message (wide)"}
	for _, tt := range []struct {
		kind, plural, singular, short string
		scope                         apiextensionsv1.ResourceScope
		columns                       []string
	}{
		{"EventSource", "eventsources", "eventsource", "es", "Namespaced", append([]string{"EventBus", "Sink"}, work...)},
		{"EventBus", "eventbuses", "eventbus", "eb", "Namespaced", bus},
		{"ClusterEventBus", "clustereventbuses", "clustereventbus", "ceb", "Cluster", bus},
		{"Trigger", "triggers", "trigger", "tg", "Namespaced", append([]string{"EventBus"}, work...)},
	} {
		k := newServer(t)[tt.kind]
		if k == nil {
			t.Fatalf("config defines no %s", tt.kind)
		}
		got, version := k.definition.Spec, k.definition.Spec.Versions[0]
		want := apiextensionsv1.CustomResourceDefinitionNames{
			Kind: tt.kind, ListKind: tt.kind + "List", Plural: tt.plural, Singular: tt.singular,
			ShortNames: []string{tt.short}, Categories: []string{"all", "openfunction"},
		}
		if diff := cmp.Diff(got.Names, want); diff != "" {
			t.Errorf("names of %s (-got +want):\n%s", tt.kind, diff)
		}
		if got.Scope != tt.scope || version.Subresources == nil || version.Subresources.Status == nil {
			t.Errorf("%s: scope %s with subresources %v, want %s with a status", tt.kind, got.Scope, version.Subresources, tt.scope)
		}
		var columns []string
		for _, c := range version.AdditionalPrinterColumns {
			columns = append(columns, c.Name+map[int32]string{1: " (wide)"}[c.Priority])
		}
		if diff := cmp.Diff(columns, tt.columns); diff != "" {
			t.Errorf("columns of %s (-got +want):\n%s", tt.kind, diff)
		}
	}
}

// TestFields wants every field to be described, and unknown ones to be kept only where another project's type is passed on.
func TestFields(t *testing.T) {
	kept := map[string][]string{}
	for name, k := range newServer(t) {
		visit(k.structural, "", func(path string, field *schema.Structural) {
			if field.Description == "" && path != ".metadata" { // The API server describes that one itself.
				t.Errorf("%s%s has no description", name, path)
			}
			if field.XPreserveUnknownFields {
				kept[name] = append(kept[name], path)
			}
		})
	}
	want := map[string][]string{
		"EventSource":     {".spec.build", ".spec.kafka[].scaleOption.advanced"},
		"EventBus":        {".spec.natsStreaming.scaleOption.advanced"},
		"ClusterEventBus": {".spec.natsStreaming.scaleOption.advanced"},
	}
	if diff := cmp.Diff(kept, want); diff != "" {
		t.Errorf("fields that keep what they do not know (-got +want):\n%s", diff)
	}
}

func visit(s *schema.Structural, path string, f func(path string, field *schema.Structural)) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		field := s.Properties[name]
		f(path+"."+name, &field)
		visit(&field, path+"."+name, f)
	}
	if s.Items != nil {
		visit(s.Items, path+"[]", f)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		visit(s.AdditionalProperties.Structural, path+"[]", f)
	}
}

func TestRightObjectsAreAcceptedVerbatim(t *testing.T) {
	s := newServer(t)
	for name, document := range documents(t, "../../config/samples/*.yaml", "../../docs/examples/*.yaml", testdata+"valid/*.yaml") {
		t.Run(name, func(t *testing.T) {
			u, unknown := s.receive(t, document)
			if diff := cmp.Diff(u, parse(t, document)); diff != "" || unknown != nil {
				t.Errorf("the server changes it: unknown fields %q, (-server +file):\n%s", unknown, diff)
			}
			if err := s.check(t, u); err != nil {
				t.Errorf("before defaulting: %v", err)
			}
			_, u = s.mutate(t, u)
			if err := s.check(t, u); err != nil {
				t.Errorf("after defaulting: %v", err)
			}
		})
	}
}

// TestMistakesReachAdmission wants the schema to let through, unchanged, what validation has a sentence for.
func TestMistakesReachAdmission(t *testing.T) {
	s := newServer(t)
	ctx := apis.WithinCreate(context.Background())
	for name, document := range documents(t, testdata+"invalid/*.yaml") {
		t.Run(name, func(t *testing.T) {
			offline := typed(t, parse(t, document))
			offline.SetDefaults(ctx)
			want := v1alpha1.Flatten(offline.Validate(ctx))

			u, unknown := s.receive(t, document)
			if unknown != nil {
				t.Errorf("unknown fields %q, want none", unknown)
			}
			o, u := s.mutate(t, u)
			if err := s.check(t, u); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
			if diff := cmp.Diff(v1alpha1.Flatten(o.Validate(ctx)), want); diff != "" || want == nil {
				t.Errorf("admission (-in the cluster +offline):\n%s", diff)
			}
		})
	}
}

// TestUnknownFieldsAreFound adds a field that does not exist in every place of every right object, one at a time.
func TestUnknownFieldsAreFound(t *testing.T) {
	s := newServer(t)
	places := 0
	for name, document := range documents(t, "../../config/samples/*.yaml", testdata+"valid/*.yaml") {
		original := parse(t, document)
		for _, path := range objects(original, s.kind(t, original).structural, nil) {
			u := runtime.DeepCopyJSON(original)
			at(u, path)["notAField"] = "x"
			data := encode(t, u)
			got, unknown := s.receive(t, data)
			if len(unknown) != 1 || !strings.HasSuffix(unknown[0], "notAField") {
				t.Errorf("%s: notAField below %v gives unknown fields %q", name, path, unknown)
			}
			if diff := cmp.Diff(got, original); diff != "" {
				t.Errorf("%s: notAField below %v changes more (-got +want):\n%s", name, path, diff)
			}
			places++
		}
	}
	if places < 100 {
		t.Errorf("only %d places were tried", places)
	}
}

// TestWrongTypesAreNamedByTheirPath covers what the types cannot read, which admission therefore leaves to the schema.
func TestWrongTypesAreNamedByTheirPath(t *testing.T) {
	s := newServer(t)
	for _, tt := range []struct{ document, want string }{
		{`{kind: EventSource, spec: {kafka: {a: {brokers: "b:1", maxMessageBytes: many}}}}`, `spec.kafka.a.maxMessageBytes: Invalid value: "string"`},
		{`{kind: EventSource, spec: {sink: {uri: 5}}}`, `spec.sink.uri: Invalid value: "integer"`},
		{`{kind: EventSource, spec: {http: [a]}}`, `spec.http: Invalid value: "array"`},
		{`{kind: EventSource, status: {sinkUri: {}}}`, `status.sinkUri: Invalid value: "object"`},
		{`{kind: Trigger, spec: {inputs: {}, subscribers: [{condition: true}]}}`, `spec.subscribers[0].condition: Invalid value: "boolean"`},
		{`{kind: EventBus, spec: {embedded: true}}`, `spec.embedded: Invalid value: "boolean"`},
	} {
		u, _ := s.receive(t, tt.document)
		if err := s.check(t, u); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("check(%s) = %v, want %s", tt.document, err, tt.want)
		}
	}
}
