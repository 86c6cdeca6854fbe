// Package trigger reconciles Triggers.
package trigger

import (
	"context"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/kmeta"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventsource"
	informer "github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/trigger"
	"github.com/openfunction/events/pkg/client/injection/reconciler/events/v1alpha1/trigger"
	listers "github.com/openfunction/events/pkg/client/listers/events/v1alpha1"
	"github.com/openfunction/events/pkg/reconciler/dapr"
	"github.com/openfunction/events/pkg/reconciler/keda"
	"github.com/openfunction/events/pkg/reconciler/objects"
	"github.com/openfunction/events/pkg/reconciler/optional"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

// NewController returns the controller of Triggers.
func NewController(ctx context.Context, cmw configmap.Watcher) *controller.Impl {
	triggers := informer.Get(ctx)
	r := &Reconciler{workloads: workload.NewClients(ctx)}
	impl := trigger.NewImpl(ctx, r)
	r.objects = objects.NewReader(ctx, impl.Tracker)
	r.objects.OnDefaults(ctx, cmw, func() { impl.GlobalResync(triggers.Informer()) })
	r.optional = optional.New(ctx, optional.Options{
		Component: component,
		Kinds:     []schema.GroupVersionResource{dapr.Resource, keda.Resource},
		Installed: func() { impl.GlobalResync(triggers.Informer()) },
		Changed:   impl.EnqueueControllerOf,
	})

	_, _ = triggers.Informer().AddEventHandler(controller.HandleAll(impl.Enqueue))
	_, _ = triggers.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: impl.Tracker.OnDeletedObserver})
	listening := func(o any) {
		es, err := kmeta.DeletionHandlingAccessor(o)
		if err != nil {
			return
		}
		for _, t := range listeners(triggers.Lister(), es.GetNamespace(), es.GetName()) {
			impl.Enqueue(t)
		}
	}
	_, _ = eventsource.Get(ctx).Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    listening,
		DeleteFunc: listening,
		UpdateFunc: func(before, after any) {
			if objects.SpecChanged(before, after) {
				listening(after)
			}
		},
	})
	r.objects.OnBus(ctx, func(eventSources []*v1alpha1.EventSource, users []*v1alpha1.Trigger) {
		for _, t := range users {
			impl.Enqueue(t)
		}
		for _, es := range eventSources { // which may be on another bus than their listeners now
			listening(es)
		}
	})
	r.workloads.Watch(ctx, component, impl)
	return impl
}

// listeners returns the Triggers that have an event of an EventSource as input.
func listeners(triggers listers.TriggerLister, namespace, name string) []*v1alpha1.Trigger {
	all, err := triggers.List(labels.Everything())
	if err != nil { // a lister of an informer has none
		return nil
	}
	var found []*v1alpha1.Trigger
	for _, t := range all {
		for _, in := range t.Spec.Inputs {
			if in != nil && in.EventSource == name && (in.Namespace == namespace || in.Namespace == "" && t.Namespace == namespace) {
				found = append(found, t)
				break
			}
		}
	}
	return found
}
