// Package eventsource reconciles EventSources.
package eventsource

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	informer "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventsource"
	"github.com/openfunction/events/pkg/client/injection/reconciler/events/v1alpha1/eventsource"
	"github.com/openfunction/events/pkg/reconciler/dapr"
	"github.com/openfunction/events/pkg/reconciler/keda"
	"github.com/openfunction/events/pkg/reconciler/objects"
	"github.com/openfunction/events/pkg/reconciler/optional"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

// NewController returns the controller of EventSources.
func NewController(ctx context.Context, cmw configmap.Watcher) *controller.Impl {
	eventSources := informer.Get(ctx).Informer()
	r := &Reconciler{workloads: workload.NewClients(ctx)}
	impl := eventsource.NewImpl(ctx, r)
	r.objects = objects.NewReader(ctx, impl.Tracker)
	r.objects.OnDefaults(ctx, cmw, func() { impl.GlobalResync(eventSources) })
	r.optional = optional.New(ctx, optional.Options{
		Component: component,
		Kinds:     []schema.GroupVersionResource{dapr.Resource, keda.Resource},
		Installed: func() { impl.GlobalResync(eventSources) },
		Changed:   impl.EnqueueControllerOf,
	})

	_, _ = eventSources.AddEventHandler(controller.HandleAll(impl.Enqueue))
	_, _ = eventSources.AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: impl.Tracker.OnDeletedObserver})
	r.objects.OnBus(ctx, func(users []*v1alpha1.EventSource, _ []*v1alpha1.Trigger) {
		for _, es := range users {
			impl.Enqueue(es)
		}
	})
	r.workloads.Watch(ctx, component, impl)
	return impl
}
