package objects

import (
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/dapr"
)

// Every kind of event that can be declared is known wherever kinds are listed.
func TestEveryKindOfEventIsKnown(t *testing.T) {
	spec := reflect.TypeFor[v1alpha1.EventSourceSpec]()
	for i := range spec.NumField() {
		field := spec.Field(i)
		if field.Type.Kind() != reflect.Map {
			continue
		}
		kind, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		t.Run(kind, func(t *testing.T) {
			es := &v1alpha1.EventSource{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "es"}}
			events := reflect.MakeMap(field.Type)
			events.SetMapIndex(reflect.ValueOf("e"), reflect.New(field.Type.Elem().Elem()))
			reflect.ValueOf(&es.Spec).Elem().Field(i).Set(events)

			if got := Events(es); len(got) != 1 || got[0].Kind != kind {
				t.Errorf("Events() = %v, so it gets no workload", got)
			}
			if got := reflect.ValueOf(outline(es).Spec).Field(i); got.Len() != 1 {
				t.Error("the outline does not have it, so no Trigger finds it")
			}
			if got := dapr.EventSourceParts(es); len(got) != 1 || got[0].Kind != kind {
				t.Errorf("dapr.EventSourceParts() = %v", got)
			}
			if err := es.Validate(t.Context()); err != nil && strings.Contains(err.Error(), "declares no event") {
				t.Errorf("Validate() = %v", err)
			}
			trigger := &v1alpha1.Trigger{Spec: v1alpha1.TriggerSpec{Inputs: map[string]*v1alpha1.Input{"a": {EventSource: "es", Event: "e", Kind: kind}}}}
			if err := trigger.Validate(t.Context()); err != nil && strings.Contains(err.Error(), ".kind") {
				t.Errorf("an input of that kind: %v", err)
			}
			es.Spec.EventBus = "b"
			b := &v1alpha1.EventBus{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "b"}, Spec: v1alpha1.EventBusSpec{Embedded: &v1alpha1.EmbeddedSpec{}}}
			p, problems := plan.Compile(plan.Objects{EventBuses: []*v1alpha1.EventBus{b}, EventSources: []*v1alpha1.EventSource{es}}, plan.Options{})
			found := len(p.Sources) == 1 && p.Sources[0].Kind == kind
			for _, problem := range problems {
				found = found || strings.Contains(problem.Path, kind)
			}
			if !found {
				t.Errorf("Compile() = %v, %v: it is not compiled", p, problems)
			}
		})
	}
}
