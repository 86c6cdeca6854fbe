package objects

import (
	"context"

	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/kmeta"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/clustereventbus"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventbus"
)

// OnBus calls changed with who uses a bus that comes, goes, has another spec or another Ready condition.
func (r *Reader) OnBus(ctx context.Context, changed func(eventSources []*v1alpha1.EventSource, triggers []*v1alpha1.Trigger)) {
	tell := func(o any) {
		bus, err := kmeta.DeletionHandlingAccessor(o)
		if err != nil {
			return
		}
		d := declared{namespace: bus.GetNamespace(), name: bus.GetName()}
		if eventSources, triggers, err := r.Users(d.String()); err == nil { // a lister of an informer has no errors
			changed(eventSources, triggers)
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: tell, DeleteFunc: tell, UpdateFunc: func(before, after any) {
		if SpecChanged(before, after) || *ready(before) != *ready(after) {
			tell(after)
		}
	}}
	_, _ = eventbus.Get(ctx).Informer().AddEventHandler(handler)
	_, _ = clustereventbus.Get(ctx).Informer().AddEventHandler(handler)
}

// SpecChanged tells whether an update of an object is one of its spec.
func SpecChanged(before, after any) bool {
	return before.(kmeta.Accessor).GetGeneration() != after.(kmeta.Accessor).GetGeneration()
}

// ready returns what users of a bus are told of its Ready condition.
func ready(bus any) *apis.Condition {
	var c *apis.Condition
	switch b := bus.(type) {
	case *v1alpha1.EventBus:
		c = b.Status.GetCondition(apis.ConditionReady)
	case *v1alpha1.ClusterEventBus:
		c = b.Status.GetCondition(apis.ConditionReady)
	}
	if c == nil {
		return &apis.Condition{}
	}
	return &apis.Condition{Status: c.Status, Reason: c.Reason, Message: c.Message}
}
