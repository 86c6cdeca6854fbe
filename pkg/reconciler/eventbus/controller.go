// Package eventbus reconciles EventBuses, and holds what ClusterEventBuses have in common with them.
package eventbus

import (
	"context"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"

	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventbus"
	reconciler "github.com/openfunction/events/pkg/client/injection/reconciler/events/v1alpha1/eventbus"
	"github.com/openfunction/events/pkg/reconciler/broker"
)

// NewController returns the controller of EventBuses.
func NewController(ctx context.Context, _ configmap.Watcher) *controller.Impl {
	r := &Reconciler{}
	impl := reconciler.NewImpl(ctx, r)
	r.observer = NewObserver(ctx, impl.Tracker)

	_, _ = eventbus.Get(ctx).Informer().AddEventHandler(controller.HandleAll(impl.Enqueue))
	_, _ = eventbus.Get(ctx).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: impl.Tracker.OnDeletedObserver})
	broker.Watch(ctx, "EventBus", impl)
	OnUse(ctx, func(namespace, bus string) {
		impl.EnqueueKeyAfter(types.NamespacedName{Namespace: namespace, Name: bus}, UsePause)
	})
	return impl
}
