package eventbus

import (
	"context"

	pkgreconciler "knative.dev/pkg/reconciler"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/client/injection/reconciler/events/v1alpha1/eventbus"
)

// Reconciler keeps the status of EventBuses, and the servers of those with spec.embedded.
type Reconciler struct{ observer *Observer }

var _ eventbus.Interface = (*Reconciler)(nil)

// ReconcileKind says in o's status whether it answers and who uses it.
func (r *Reconciler) ReconcileKind(ctx context.Context, o *v1alpha1.EventBus) pkgreconciler.Event {
	b := Bus{Object: o, Status: &o.Status, Name: "EventBus " + o.Namespace + "/" + o.Name}
	declared := o.DeepCopy()
	var err error
	if b.Servers, err = r.observer.Serve(ctx, declared, &declared.Spec); err == nil {
		b.Plan, b.Problems, err = r.observer.Objects.EventBus(ctx, o)
	}
	return r.observer.Observe(ctx, b, err)
}
