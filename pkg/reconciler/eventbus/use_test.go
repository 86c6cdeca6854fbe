package eventbus

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/controller"

	eventsclient "github.com/openfunction/events/pkg/client/injection/client"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventsource"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/trigger"
	. "github.com/openfunction/events/pkg/reconciler/testing"
)

func TestOnUse(t *testing.T) {
	ctx := NewWorld(t).Ctx
	told := make(chan types.NamespacedName, 100)
	OnUse(ctx, func(namespace, bus string) { told <- types.NamespacedName{Namespace: namespace, Name: bus} })
	stop := make(chan struct{})
	wait, err := controller.RunInformers(stop, eventsource.Get(ctx).Informer(), trigger.Get(ctx).Informer())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(stop); wait() })
	wantTold := func(what string, buses ...string) {
		t.Helper()
		for _, want := range buses {
			if got := <-told; got != (types.NamespacedName{Namespace: "default", Name: want}) {
				t.Errorf("%s tells %s, want default/%s", what, got, want)
			}
		}
	}

	sources, triggers := eventsclient.Get(ctx).EventsV1alpha1().EventSources("default"), eventsclient.Get(ctx).EventsV1alpha1().Triggers("default")
	do := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(sources.Create(ctx, EventSource("default", "es", WithHTTP("e"), WithBus("a")), metav1.CreateOptions{}))
	wantTold("a new EventSource", "a")
	do(sources.Update(ctx, EventSource("default", "es", WithHTTP("e"), WithHTTP("f"), WithBus("a")), metav1.UpdateOptions{}))
	do(sources.Update(ctx, EventSource("default", "es", WithHTTP("e"), WithBus("b")), metav1.UpdateOptions{}))
	wantTold("another bus, but not another event,", "a", "b")
	do(sources.Update(ctx, EventSource("default", "es", WithHTTP("e"), WithSink(URI("http://sink"))), metav1.UpdateOptions{}))
	wantTold("no bus any more", "b")
	do(nil, sources.Delete(ctx, "es", metav1.DeleteOptions{}))
	do(triggers.Create(ctx, Trigger("default", "t"), metav1.CreateOptions{}))
	wantTold("a new Trigger, after an EventSource without a bus was deleted,", "default")
	do(nil, triggers.Delete(ctx, "t", metav1.DeleteOptions{}))
	wantTold("a Trigger that is deleted", "default")
}
