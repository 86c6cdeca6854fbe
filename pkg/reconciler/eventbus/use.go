package eventbus

import (
	"context"
	"time"

	"k8s.io/client-go/tools/cache"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventsource"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/trigger"
)

// UsePause is how long a new user waits for others, so that one write tells of many.
const UsePause = 500 * time.Millisecond

// OnUse calls changed when an EventSource or Trigger of a namespace begins or ceases to name a bus.
func OnUse(ctx context.Context, changed func(namespace, bus string)) {
	tell := func(o any) {
		if namespace, bus := use(o); bus != "" {
			changed(namespace, bus)
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: tell, DeleteFunc: tell, UpdateFunc: func(before, after any) {
		_, was := use(before)
		if _, is := use(after); is != was {
			tell(before)
			tell(after)
		}
	}}
	_, _ = eventsource.Get(ctx).Informer().AddEventHandler(handler)
	_, _ = trigger.Get(ctx).Informer().AddEventHandler(handler)
}

// use returns the namespace of o and the bus that it names once it is defaulted, "" if it names none.
func use(o any) (namespace, bus string) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	switch o := o.(type) {
	case *v1alpha1.EventSource:
		return o.Namespace, o.Spec.BusName()
	case *v1alpha1.Trigger:
		return o.Namespace, o.Spec.BusName()
	}
	return "", ""
}
