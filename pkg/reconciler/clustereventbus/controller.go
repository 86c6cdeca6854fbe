// Package clustereventbus reconciles ClusterEventBuses.
package clustereventbus

import (
	"context"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/kmeta"

	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/clustereventbus"
	buses "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventbus"
	reconciler "github.com/openfunction/events/pkg/client/injection/reconciler/events/v1alpha1/clustereventbus"
	"github.com/openfunction/events/pkg/reconciler/broker"
	"github.com/openfunction/events/pkg/reconciler/eventbus"
)

// NewController returns the controller of ClusterEventBuses.
func NewController(ctx context.Context, _ configmap.Watcher) *controller.Impl {
	r := &Reconciler{}
	impl := reconciler.NewImpl(ctx, r)
	r.observer = eventbus.NewObserver(ctx, impl.Tracker)

	_, _ = clustereventbus.Get(ctx).Informer().AddEventHandler(controller.HandleAll(impl.Enqueue))
	_, _ = clustereventbus.Get(ctx).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: impl.Tracker.OnDeletedObserver})
	broker.Watch(ctx, "ClusterEventBus", impl)
	changed := func(_, bus string) { impl.EnqueueKeyAfter(types.NamespacedName{Name: bus}, eventbus.UsePause) }
	eventbus.OnUse(ctx, changed)
	// An EventBus takes its namespace's users from the ClusterEventBus of its name, and gives them back when it goes.
	shadow := func(o any) {
		if bus, err := kmeta.DeletionHandlingAccessor(o); err == nil {
			changed(bus.GetNamespace(), bus.GetName())
		}
	}
	_, _ = buses.Get(ctx).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: shadow, DeleteFunc: shadow})
	return impl
}
