package objects_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/configmap"

	"github.com/openfunction/events/pkg/apis/config"
	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/reconciler/objects"
	. "github.com/openfunction/events/pkg/reconciler/testing"
)

// TestDefaultsOfDeliveries changes the settings of a cluster, and wants them to count for what leaves them out, and nothing else of them.
func TestDefaultsOfDeliveries(t *testing.T) {
	sink := URI("http://sink.example.com")
	es := EventSource("shop", "es", WithBus("default"), WithCron("tick"), WithSink(sink))
	tr := Trigger("shop", "t", WithInput("a", "shop", "es", "tick"), WithSubscriber("a", sink), WithSubscriber("a || a", sink))
	tr.Spec.EventBus, tr.Spec.Window = "", "" // as admission of before did not store it
	tr.Spec.Subscribers[1].Delivery = &v1alpha1.DeliverySpec{Retry: new(int32(7))}
	ctx := NewWorld(t, es, tr, EventBus("shop", "default"), EventBus("shop", "ours")).Ctx

	watcher, changes := &configmap.ManualWatcher{}, 0
	reader := objects.NewReader(ctx, noTracker())
	reader.OnDefaults(ctx, watcher, func() { changes++ })
	for i, step := range []struct {
		data    map[string]string
		retries int
		timeout time.Duration
	}{
		{nil, 10, 30 * time.Second},
		{map[string]string{"event-bus": "ours", "window": "1h", "delivery.retry": "3", "delivery.timeout": "PT5S"}, 3, 5 * time.Second},
		{map[string]string{"delivery.timeout": "PT6S"}, 10, 6 * time.Second},
	} {
		if step.data != nil {
			watcher.OnChange(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: config.DefaultsName}, Data: step.data})
		}
		if changes != i {
			t.Errorf("%v: %d changes were told, want %d", step.data, changes, i)
		}
		source, err := reader.EventSource(ctx, es)
		if err != nil {
			t.Fatal(err)
		}
		if d := source.Plan.Subscribers[0].Delivery; d.Retry != step.retries || d.Timeout != step.timeout {
			t.Errorf("%v: the EventSource has %+v, want %d retries after %s", step.data, d, step.retries, step.timeout)
		}
		trigger, err := reader.Trigger(ctx, tr)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range trigger.Plan.Subscribers {
			retries := map[string]int{"a": step.retries, "a || a": 7}[s.Condition]
			if s.Delivery.Retry != retries || s.Delivery.Timeout != step.timeout || s.Window != time.Minute || trigger.BusName != "EventBus shop/default" {
				t.Errorf("%v: subscriber %s has %+v, the window %s and the bus %s; want %d retries after %s, and our own defaults of the rest",
					step.data, s.Condition, s.Delivery, s.Window, trigger.BusName, retries, step.timeout)
			}
		}
	}
}
