package trigger

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	pkgreconciler "knative.dev/pkg/reconciler"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/client/injection/reconciler/events/v1alpha1/trigger"
	"github.com/openfunction/events/pkg/reconciler/dapr"
	"github.com/openfunction/events/pkg/reconciler/keda"
	"github.com/openfunction/events/pkg/reconciler/objects"
	"github.com/openfunction/events/pkg/reconciler/optional"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

// component is the label of all children.
const component = "trigger"

// Reconciler runs each Trigger in a workload of its own.
type Reconciler struct {
	objects   *objects.Reader
	workloads *workload.Clients
	optional  *optional.Children
	told      objects.Told
}

var _ trigger.Interface = (*Reconciler)(nil)

// ReconcileKind compiles t, applies its children, and marks in its status what became of them.
func (r *Reconciler) ReconcileKind(ctx context.Context, t *v1alpha1.Trigger) pkgreconciler.Event {
	before := objects.Status(t)
	compiled, err := r.objects.Trigger(ctx, t)
	o := objects.NewOutcome(compiled)
	if err == nil {
		err = r.apply(ctx, t, o)
	}
	if err != nil {
		objects.Interrupted(t, &t.Status.WorkloadStatus)
		return err
	}
	if !compiled.Invalid {
		o.Optional(r.optional.Apply(ctx, t, dapr.Resource, dapr.Trigger(t, o.BusSpec, o.URL)))
	}
	mark(t, o)
	return r.told.Finish(ctx, t, before, o)
}

// apply runs what was compiled, and what runs already and waits.
func (r *Reconciler) apply(ctx context.Context, t *v1alpha1.Trigger, o *objects.Outcome) error {
	name := workload.Name("trigger", t.Name)
	switch {
	case len(o.Plan.Subscribers) > 0, o.Plan.Waits() && r.workloads.HasPlan(t.Namespace, name):
		return r.run(ctx, t, o, name)
	case o.Plan.Waits(): // It never ran.
		return nil
	}
	o.Optional(r.optional.Apply(ctx, t, keda.Resource, nil))
	t.Status.Subscriptions = nil
	return r.workloads.Prune(ctx, t)
}

// run applies the workload and what KEDA scales it by. What is not valid, or has no bus, says nothing of that, so it stays as it is.
func (r *Reconciler) run(ctx context.Context, t *v1alpha1.Trigger, o *objects.Outcome, name string) error {
	var scales []*unstructured.Unstructured
	known := !o.Invalid && o.BusSpec != nil
	next := r.workloads.Succeed(ctx, t.Namespace, name, o.Plan)
	if known {
		scale, note := keda.Trigger(t, o.BusSpec, next, name)
		if scale != nil {
			scales = append(scales, scale)
		}
		if note != "" && r.optional.Installed(keda.Resource) {
			o.Notes = append(o.Notes, note)
		}
	}
	level := r.workloads.LogLevel(t.Namespace, name)
	if !o.Invalid {
		level = ""
		if t.Spec.LogLevel != nil {
			level = *t.Spec.LogLevel
		}
	}
	// Just after a start it is not known yet whether KEDA is there; but what it left at zero must not stay there without it.
	keeps := r.optional.Installed(keda.Resource) || !r.workloads.Idle(t.Namespace, name)
	var err error
	o.States[name], err = r.workloads.Apply(ctx, workload.Workload{
		Owner:     t,
		Name:      name,
		Component: component,
		Plan:      o.Plan,
		LogLevel:  level,
		Scaled:    keeps && (!known || scales != nil),
	})
	if err == nil {
		t.Status.Subscriptions = next.Subscriptions()
	}
	if err == nil && known {
		o.Optional(r.optional.Apply(ctx, t, keda.Resource, scales))
	}
	return err
}

// mark writes what o says into the status of t.
func mark(t *v1alpha1.Trigger, o *objects.Outcome) {
	bus := o.Bus()
	t.Status.Mark(bus, inputs(o), subscribers(o))

	var components, workloads objects.Count
	for _, part := range dapr.TriggerParts(t) {
		if part.Bus {
			components.Add(bus.IsGood())
		} else {
			_, wrong := o.Verdict(part.Path)
			components.Add(!wrong && !o.Invalid)
		}
	}
	workloads.Add(o.States[workload.Name("trigger", t.Name)].Ready)
	t.Status.ComponentStatistics, t.Status.WorkloadStatistics = components.String(), workloads.String()
}

// inputs says whether every input's event exists and may be used.
func inputs(o *objects.Outcome) v1alpha1.Verdict {
	if v, ok := o.Verdict("spec.inputs"); ok {
		return v
	}
	if o.Invalid {
		return objects.Unseen()
	}
	return v1alpha1.Good()
}

// subscribers says whether every subscriber gets events.
func subscribers(o *objects.Outcome) v1alpha1.Verdict {
	if v, ok := o.Others("spec.eventBus", "spec.inputs"); ok {
		return v
	}
	if v, ok := o.Verdict("spec.eventBus"); ok {
		return v1alpha1.Pending(v.Reason, "no subscriber runs until the bus can be used")
	}
	if v, ok := o.Verdict("spec.inputs"); ok {
		return v1alpha1.Pending(v.Reason, "no subscriber runs until every input is resolved")
	}
	return o.Running()
}
