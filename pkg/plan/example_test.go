package plan_test

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

func ExampleCompile() {
	ctx := context.Background()
	sink := &v1alpha1.Sink{Destination: duckv1.Destination{Ref: &duckv1.KReference{APIVersion: "v1", Kind: "Service", Name: "hello"}}}
	orders := &v1alpha1.EventSource{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "orders"},
		Spec:       v1alpha1.EventSourceSpec{Sink: sink, HTTP: map[string]*v1alpha1.HTTPSpec{"created": {}}},
	}
	lost := &v1alpha1.Trigger{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "lost"}}
	orders.SetDefaults(ctx)
	lost.SetDefaults(ctx)

	p, problems := plan.Compile(
		plan.Objects{EventSources: []*v1alpha1.EventSource{orders}, Triggers: []*v1alpha1.Trigger{lost}},
		plan.Options{Resolve: func(d *duckv1.Destination, namespace string) (*plan.Target, error) {
			name := d.Ref.Namespace + "/" + d.Ref.Name
			return &plan.Target{Name: "sink " + name, URL: "http://" + d.Ref.Name + "." + d.Ref.Namespace}, nil
		}},
	)
	for _, s := range p.Sources {
		fmt.Printf("%s %s/%s/%s goes to %s\n", s.Kind, s.Namespace, s.EventSource, s.Event, s.Sink.URL)
	}
	for _, problem := range problems {
		fmt.Println(problem.Reason, problem.Path)
	}
	// Output:
	// http default/orders/created goes to http://hello.default
	// BusNotFound spec.eventBus
}
