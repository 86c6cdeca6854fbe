// Package gateway reconciles the plan of the gateway that all namespaces share.
package gateway

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	secret "knative.dev/pkg/client/injection/kube/informers/core/v1/secret/filtered"
	filtered "knative.dev/pkg/client/injection/kube/informers/factory/filtered"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	pkgreconciler "knative.dev/pkg/reconciler"
	"knative.dev/pkg/system"
	"knative.dev/pkg/tracker"

	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/clustereventbus"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventbus"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventsource"
	"github.com/openfunction/events/pkg/reconciler/objects"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

const (
	// queueName is part of the name of the lease, too.
	queueName = "SharedGateway"
	// pause is how long a change waits for others, at least, so that many are written at once.
	pause = 100 * time.Millisecond
	// share is which part of the time is for passes, at most, while objects change all the time: a pass takes longer the more there are.
	share = 8
	// backoffMin and backoffMax bound how soon what failed is tried again.
	backoffMin = 200 * time.Millisecond
	backoffMax = 10 * time.Second
	// retry is when to look again for what is missing, and refresh when nothing is expected.
	retry   = 3 * time.Second
	refresh = 30 * time.Second
)

// NewController returns the controller that writes the shared gateway's plan. It relies on being started after the informers are synced,
// as sharedmain does: a plan of half the objects would drop the others.
func NewController(ctx context.Context, cmw configmap.Watcher) *controller.Impl {
	eventSources, eventBuses, clusterEventBuses := eventsource.Get(ctx), eventbus.Get(ctx), clustereventbus.Get(ctx)
	key := types.NamespacedName{Namespace: system.Namespace(), Name: workload.SharedSecret}
	r := &reconciler{
		LeaderAwareFuncs: pkgreconciler.LeaderAwareFuncs{
			PromoteFunc: func(bkt pkgreconciler.Bucket, enq func(pkgreconciler.Bucket, types.NamespacedName)) error {
				enq(bkt, key)
				return nil
			},
		},
		key:               key,
		secrets:           &secrets{Interface: kubeclient.Get(ctx)},
		clients:           workload.NewClients(ctx),
		recorder:          recorder(ctx),
		eventSources:      eventSources.Lister(),
		eventBuses:        eventBuses.Lister(),
		clusterEventBuses: clusterEventBuses.Lister(),
	}
	impl := controller.NewContext(ctx, r, controller.ControllerOptions{
		WorkQueueName: queueName,
		Logger:        logging.FromContext(ctx).Named(queueName),
		RateLimiter:   workqueue.NewTypedItemExponentialFailureRateLimiter[any](backoffMin, backoffMax),
		Concurrency:   1,
	})
	soon := func(any) { impl.EnqueueKeyAfter(key, max(pause, r.pace.rest(time.Now()))) }
	impl.Tracker = tracker.New(func(types.NamespacedName) { soon(nil) }, controller.GetTrackerLease(ctx))
	r.objects = objects.NewReader(context.WithValue(ctx, kubeclient.Key{}, kubernetes.Interface(r.secrets)), impl.Tracker)
	r.objects.OnDefaults(ctx, cmw, func() { soon(nil) })

	_, _ = eventSources.Informer().AddEventHandler(specChanged(soon))
	_, _ = eventBuses.Informer().AddEventHandler(specChanged(soon))
	_, _ = clusterEventBuses.Informer().AddEventHandler(specChanged(soon))
	for _, selector := range ctx.Value(filtered.LabelKey{}).([]string) {
		_, _ = secret.Get(ctx, selector).Informer().AddEventHandler(cache.FilteringResourceEventHandler{
			FilterFunc: controller.FilterWithNameAndNamespace(key.Namespace, key.Name),
			Handler:    controller.HandleAll(soon),
		})
	}
	return impl
}

// recorder is that of the controller, or else one that writes until ctx is done.
func recorder(ctx context.Context) record.EventRecorder {
	if r := controller.GetEventRecorder(ctx); r != nil {
		return r
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: kubeclient.Get(ctx).CoreV1().Events("")})
	return broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "shared-gateway-controller"})
}

// specChanged calls do for an object that comes, goes or gets another spec, but not for the statuses that are written all the time.
func specChanged(do func(any)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{AddFunc: do, DeleteFunc: do, UpdateFunc: func(before, after any) {
		if objects.SpecChanged(before, after) {
			do(after)
		}
	}}
}
