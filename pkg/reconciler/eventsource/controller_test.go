package eventsource

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/configmap"

	. "github.com/openfunction/events/pkg/reconciler/testing"
)

func TestNewController(t *testing.T) {
	es := EventSource("shop", "es", WithBus("b"), WithCron("tick"))
	for _, tt := range []struct {
		name    string
		created runtime.Object
		want    string
	}{
		{"another EventSource", EventSource("crm", "new", WithBus("b"), WithCron("tick")), "crm/new"},
		{"its bus", EventBus("shop", "b"), "shop/es"},
		{"its ClusterEventBus", ClusterEventBus("b"), "shop/es"},
		{"a child", Child(es, component), "shop/es"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := NewWorld(t, es)
			impl := NewController(w.Ctx, &configmap.ManualWatcher{})
			w.Run()
			got := []string{w.Next(impl)}
			w.Create(tt.created)
			got = append(got, w.Next(impl))
			if diff := cmp.Diff([]string{"shop/es", tt.want}, got); diff != "" {
				t.Errorf("keys (-want, +got):\n%s", diff)
			}
		})
	}
}

func TestDefaultsAreFollowed(t *testing.T) {
	w, settings := NewWorld(t, EventSource("shop", "es", WithBus("b"), WithCron("tick"))), &configmap.ManualWatcher{}
	impl := NewController(w.Ctx, settings)
	w.Run()
	got := []string{w.Next(impl)}
	settings.OnChange(Settings("delivery.retry", "3"))
	got = append(got, w.Next(impl))
	if diff := cmp.Diff([]string{"shop/es", "shop/es"}, got); diff != "" {
		t.Errorf("keys (-want, +got):\n%s", diff)
	}
}
