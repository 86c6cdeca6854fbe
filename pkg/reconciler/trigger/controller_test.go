package trigger

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	. "github.com/openfunction/events/pkg/reconciler/testing"
)

func TestNewController(t *testing.T) {
	tr := Trigger("shop", "t", OnBus("b"), WithInput("x", "crm", "people", "new"), onOrders, WithSubscriber("a", sink))
	tr.Spec.Inputs["a"].Namespace = "" // as it is before it is defaulted
	for _, tt := range []struct {
		name    string
		created runtime.Object
		want    string
	}{
		{"another Trigger", Trigger("crm", "new", OnBus("b"), onOrders, WithSubscriber("a", sink)), "crm/new"},
		{"its bus", EventBus("shop", "b"), "shop/t"},
		{"its ClusterEventBus", ClusterEventBus("b"), "shop/t"},
		{"its EventSource", orders, "shop/t"},
		{"its EventSource of another namespace", EventSource("crm", "people", WithBus("b"), WithHTTP("new")), "shop/t"},
		{"a child", Child(tr, component), "shop/t"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := NewWorld(t, tr)
			impl := NewController(w.Ctx, nil)
			w.Run()
			got := []string{w.Next(impl)}
			w.Create(tt.created)
			got = append(got, w.Next(impl))
			if diff := cmp.Diff([]string{"shop/t", tt.want}, got); diff != "" {
				t.Errorf("keys (-want, +got):\n%s", diff)
			}
		})
	}
}

func TestABusThatTakesAnEventSourceAway(t *testing.T) {
	people := EventSource("crm", "people", WithBus("b"), WithHTTP("new"), WithAllowed("shop"))
	w := NewWorld(t, people, ClusterEventBus("b"), Trigger("shop", "t", OnBus("b"), WithInput("a", "crm", "people", "new"), WithSubscriber("a", sink)))
	impl := NewController(w.Ctx, nil)
	w.Run()
	got := []string{w.Next(impl)}
	w.Create(EventBus("crm", "b"))
	got = append(got, w.Next(impl))
	if diff := cmp.Diff([]string{"shop/t", "shop/t"}, got); diff != "" {
		t.Errorf("keys (-want, +got):\n%s", diff)
	}
}
