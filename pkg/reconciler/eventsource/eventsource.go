package eventsource

import (
	"context"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	pkgreconciler "knative.dev/pkg/reconciler"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/client/injection/reconciler/events/v1alpha1/eventsource"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/dapr"
	"github.com/openfunction/events/pkg/reconciler/keda"
	"github.com/openfunction/events/pkg/reconciler/objects"
	"github.com/openfunction/events/pkg/reconciler/optional"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

// component is the label of all children.
const component = "eventsource"

// Reconciler runs EventSources: each event in a workload of its own, but http events in the gateway that all share.
type Reconciler struct {
	objects   *objects.Reader
	workloads *workload.Clients
	optional  *optional.Children
	told      objects.Told
}

var _ eventsource.Interface = (*Reconciler)(nil)

// ReconcileKind compiles es, applies its children, and marks in its status what became of them.
func (r *Reconciler) ReconcileKind(ctx context.Context, es *v1alpha1.EventSource) pkgreconciler.Event {
	before := objects.Status(es)
	compiled, err := r.objects.EventSource(ctx, es)
	o := objects.NewOutcome(compiled)
	if err == nil {
		err = r.apply(ctx, es, o)
	}
	if err != nil {
		objects.Interrupted(es, &es.Status.WorkloadStatus)
		return err
	}
	if !compiled.Invalid {
		r.applyOptional(ctx, es, o)
	}
	mark(es, o)
	return r.told.Finish(ctx, es, before, o)
}

// apply runs what was compiled, and what runs already and waits, and removes the workloads of events that are gone.
func (r *Reconciler) apply(ctx context.Context, es *v1alpha1.EventSource, o *objects.Outcome) error {
	workloads, shared := objects.Split(es, o.Plan)
	r.countLeaving(es, workloads)
	if state, ok := r.workloads.SharedPart(ctx, "EventSource "+es.Namespace+"/"+es.Name, shared); ok {
		o.States[""] = state
	}
	names := slices.Sorted(maps.Keys(workloads))
	listener := "" // runs the sink
	if sink := objects.SinkWorkload(es); workloads[sink] != nil {
		listener = sink
		names = append([]string{sink}, slices.DeleteFunc(names, func(name string) bool { return name == sink })...)
	}
	for _, name := range names {
		if p := workloads[name]; len(p.Sources)+len(p.Subscribers) == 0 && !r.workloads.HasPlan(es.Namespace, name) {
			continue // It waits, and never ran.
		}
		// What is published before the sink's subscriptions exist is for nobody.
		listening := name == listener || len(o.Plan.Subscribers) == 0 || o.States[listener].Ready
		if !listening && !r.workloads.Exists(es.Namespace, name) {
			o.States[name] = workload.State{Reason: workload.ReasonStarting, Message: "it begins when the subscriptions of spec.sink exist"}
			continue
		}
		level := es.Spec.LogLevel
		if o.Invalid {
			level = r.workloads.LogLevel(es.Namespace, name)
		}
		var err error
		o.States[name], err = r.workloads.Apply(ctx, workload.Workload{
			Owner:     es,
			Name:      name,
			Component: component,
			Plan:      workloads[name],
			LogLevel:  level,
			Scaled:    r.scaled(es, name, o.Invalid),
		})
		if err != nil {
			return err
		}
	}
	r.remember(ctx, es, workloads[listener], shared)
	return r.workloads.Prune(ctx, es, names...)
}

// remember has the status of es name the subscriptions of its sink, which own runs, if it is not nil and not just waiting, or else the shared gateway.
func (r *Reconciler) remember(ctx context.Context, es *v1alpha1.EventSource, own, shared *plan.Plan) {
	switch {
	case own != nil && (len(own.Subscribers) > 0 || r.workloads.HasPlan(es.Namespace, objects.SinkWorkload(es))):
		es.Status.Subscriptions = r.workloads.Succeed(ctx, es.Namespace, objects.SinkWorkload(es), own).Subscriptions()
	case len(shared.Subscribers)+len(shared.Waiting) > 0:
		es.Status.Subscriptions = r.workloads.SharedSubscriptions(ctx, shared)
	default:
		es.Status.Subscriptions = nil
	}
}

// countLeaving makes the first members of groups count those that are no longer wanted and not gone yet: what a member leaves to the
// broker the first one takes, and nobody else may have the session then.
func (r *Reconciler) countLeaving(es *v1alpha1.EventSource, workloads map[string]*plan.Plan) {
	for _, p := range workloads {
		for _, s := range p.Sources {
			if s.MQTT == nil || s.MQTT.Group == "" || s.MQTT.Member > 0 {
				continue
			}
			for n := s.MQTT.Members; n < plan.MaxMembers; n++ {
				if r.workloads.Runs(es, objects.MemberWorkload(es, s.Event, n)) {
					s.MQTT.Members = n + 1
				}
			}
		}
	}
}

// scaled tells whether the replicas of a workload are KEDA's. Just after a start it is not known yet whether KEDA is there; but what it left
// at zero must not stay there without it. What is not valid may say nothing of it.
func (r *Reconciler) scaled(es *v1alpha1.EventSource, name string, invalid bool) bool {
	keeps := r.optional.Installed(keda.Resource) || !r.workloads.Idle(es.Namespace, name)
	return keeps && (invalid || slices.ContainsFunc(scales(es), func(s *unstructured.Unstructured) bool { return s.GetName() == name }))
}

// scales are what KEDA scales workloads of es by, each of which has its name.
func scales(es *v1alpha1.EventSource) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, e := range objects.Events(es) {
		if e.Kind != plan.KindKafka {
			continue
		}
		if s := keda.EventSource(es, e.Name, e.Workloads[0]); s != nil {
			all = append(all, s)
		}
	}
	return all
}

// applyOptional applies what others need: Dapr Components for producers and functions, and what KEDA scales by.
func (r *Reconciler) applyOptional(ctx context.Context, es *v1alpha1.EventSource, o *objects.Outcome) {
	var sinkURL string
	if es.Spec.Sink != nil {
		sinkURL = o.URL(es.Spec.Sink)
	}
	o.Optional(r.optional.Apply(ctx, es, dapr.Resource, dapr.EventSource(es, o.BusSpec, sinkURL)))
	o.Optional(r.optional.Apply(ctx, es, keda.Resource, scales(es)))
}
