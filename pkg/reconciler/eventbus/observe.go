package eventbus

import (
	"cmp"
	"context"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/kmeta"
	"knative.dev/pkg/logging"
	pkgreconciler "knative.dev/pkg/reconciler"
	"knative.dev/pkg/tracker"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/broker"
	"github.com/openfunction/events/pkg/reconciler/objects"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

const (
	// pollReachable is how often a bus that answers is asked about.
	pollReachable = 5 * time.Second
	// pollMin and pollMax bound how often the others are: the longer nothing changes, the less often.
	pollMin = 300 * time.Millisecond
	pollMax = 2 * time.Second
)

// Observer observes EventBuses and ClusterEventBuses alike. It is safe for concurrent use.
type Observer struct {
	Objects *objects.Reader
	// Shared says whether the shared gateway runs what hash says for the object of that name. See workload.Clients.
	Shared func(ctx context.Context, object, hash string) workload.State
	// Servers makes the servers of a bus with spec.embedded. See broker.Clients.
	Servers func(ctx context.Context, bus kmeta.OwnerRefable, spec *v1alpha1.EmbeddedSpec) (workload.State, error)

	told objects.Told
}

// NewObserver returns an Observer with the listers and clients of ctx.
func NewObserver(ctx context.Context, t tracker.Interface) *Observer {
	return &Observer{Objects: objects.NewReader(ctx, t), Shared: workload.NewClients(ctx).Shared, Servers: broker.NewClients(ctx).Apply}
}

// Declared is an EventBus or a ClusterEventBus.
type Declared interface {
	kmeta.OwnerRefable
	apis.Defaultable
	apis.Validatable
}

// Serve makes the servers of a bus, of which it is given a copy and the spec of that, if it is valid. Their state is nil if it is to have none.
func (o *Observer) Serve(ctx context.Context, bus Declared, spec *v1alpha1.EventBusSpec) (*workload.State, error) {
	bus.SetDefaults(ctx)
	if spec.Embedded == nil {
		return nil, nil
	}
	if bus.Validate(ctx).Filter(apis.ErrorLevel) != nil {
		return &workload.State{Reason: plan.ReasonInvalid, Message: objects.Unseen().Message}, nil
	}
	s, err := o.Servers(ctx, bus, spec.Embedded)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// Bus is an EventBus or a ClusterEventBus that is being reconciled.
type Bus struct {
	// Object is what Kubernetes Events are about.
	Object runtime.Object
	Status *v1alpha1.EventBusStatus
	// Name is what plans call it: "EventBus ns/name" or "ClusterEventBus name".
	Name string
	// Servers is the state of its servers, nil when it has none.
	Servers *workload.State
	// Plan is its part of a plan, nil when there are Problems.
	Plan     *plan.Bus
	Problems []plan.Problem
}

// Observe marks in the status of b who uses it and whether it answers, tells in a Kubernetes Event when that changes, and returns when to
// look again. With an err, that of reading b, it leaves the status as it is.
func (o *Observer) Observe(ctx context.Context, b Bus, err error) pkgreconciler.Event {
	eventSources, triggers, usersErr := o.Objects.Users(b.Name)
	if err := cmp.Or(err, usersErr); err != nil {
		logging.FromContext(ctx).Warnw("bus not read", zap.String("bus", b.Name), zap.Error(err))
		return controller.NewRequeueAfter(pollMax)
	}
	b.Status.MarkUsers(names(eventSources), names(triggers))

	before := b.reachable().Status
	switch {
	case b.refused():
		b.Status.MarkUnreachable(b.Servers.Reason, "%s", b.Servers.Message)
	case b.leaving(): // What answers now, if anything, is not the servers of this bus.
		b.Status.MarkWaiting("%s", b.Servers.Message)
	case len(b.Problems) > 0:
		p := b.Problems[0]
		b.Status.MarkUnreachable(p.Reason, "%s: %s", p.Path, p.Message)
	default:
		says := func(reason string) string { return said(reason, eventSources, triggers) }
		b.mark(o.Shared(ctx, b.Name, hash(b.Plan)), says(v1alpha1.ReasonLosesEvents), says(v1alpha1.ReasonFull))
	}
	b.markServers()
	now := b.reachable()
	if o.told.News(b.Object.(metav1.Object).GetUID(), now.Status) && now.Status != before {
		tell(ctx, &b, now)
	}
	if now.Reason == plan.ReasonInvalid {
		return nil // Until it is changed.
	}
	return controller.NewRequeueAfter(poll(now, time.Now()))
}

// said is what processes of these users say of their bus with this reason, if any does: most likely the same, and of several things always the
// same one.
func said(reason string, eventSources []*v1alpha1.EventSource, triggers []*v1alpha1.Trigger) (why string) {
	look := func(c *apis.Condition) {
		if c != nil && c.Reason == reason && (why == "" || c.Message < why) {
			why = c.Message
		}
	}
	for _, es := range eventSources {
		look(es.Status.GetCondition(v1alpha1.EventSourceBusReady))
	}
	for _, t := range triggers {
		look(t.Status.GetCondition(v1alpha1.TriggerBusReady))
	}
	return why
}

// mark says what the shared gateway sees, and losing and full what others do.
func (b *Bus) mark(s workload.State, losing, full string) {
	losing, full = cmp.Or(s.Losing, losing), cmp.Or(s.Failing, full)
	switch {
	case s.Ready && losing != "":
		b.Status.MarkLosing(losing)
	case s.Ready && full != "":
		b.Status.MarkFull(full)
	case s.Ready:
		b.Status.MarkReachable()
	case b.Servers != nil && b.Servers.Reason == broker.ReasonNotRunning: // which says more than that nobody is there
		b.Status.MarkUnreachable(b.Servers.Reason, "%s", b.Servers.Message)
	case b.Servers != nil && !b.Servers.Ready:
		b.Status.MarkWaiting("%s", b.Servers.Message)
	case s.Reason == workload.ReasonUnreachable, s.Reason == workload.ReasonNotApplied: // Waiting alone does not help.
		b.Status.MarkUnreachable(s.Reason, "%s", s.Message)
	default:
		b.Status.MarkWaiting("%s", s.Message)
	}
}

// refused tells whether servers cannot be made.
func (b *Bus) refused() bool {
	return b.Servers != nil && (b.Servers.Reason == workload.ReasonNotOwned || b.Servers.Reason == workload.ReasonRefused)
}

// leaving tells whether those of a bus of the same name that was deleted are in the way of servers.
func (b *Bus) leaving() bool {
	return b.Servers != nil && b.Servers.Reason == workload.ReasonPredecessorLeaves
}

func (b *Bus) markServers() {
	switch s := b.Servers; {
	case s == nil:
		b.Status.MarkNoServers()
	case s.Ready:
		b.Status.MarkServers(v1alpha1.Good())
	case s.Reason == broker.ReasonStarting, s.Reason == plan.ReasonInvalid, b.leaving():
		b.Status.MarkServers(v1alpha1.Pending(s.Reason, s.Message))
	default:
		b.Status.MarkServers(v1alpha1.Bad(s.Reason, s.Message))
	}
}

// reachable is the condition that Ready is made of. Ready itself may say that a new generation has not been looked at yet.
func (b *Bus) reachable() *apis.Condition { return b.Status.GetCondition(v1alpha1.EventBusReachable) }

// hash is what the gateway reports when it runs p.
func hash(p *plan.Bus) string {
	return (&plan.Plan{Buses: []plan.Bus{*p}}).Hashes()[p.Name]
}

// poll is how long to wait before asking about a bus again whose condition is c.
func poll(c *apis.Condition, now time.Time) time.Duration {
	if c.IsTrue() {
		return pollReachable
	}
	return min(max(now.Sub(c.LastTransitionTime.Inner.Time)/5, pollMin), pollMax)
}

func tell(ctx context.Context, b *Bus, c *apis.Condition) {
	recorder := controller.GetEventRecorder(ctx)
	switch {
	case c.IsTrue():
		recorder.Event(b.Object, corev1.EventTypeNormal, string(c.Type), "the broker answers")
	case c.IsFalse():
		recorder.Event(b.Object, corev1.EventTypeWarning, c.Reason, c.Message)
	default:
		recorder.Event(b.Object, corev1.EventTypeNormal, c.Reason, c.Message)
	}
}

// names returns what a person calls each of the objects.
func names[T kmeta.OwnerRefable](objects []T) []string {
	all := make([]string, len(objects))
	for i, o := range objects {
		all[i] = o.GetGroupVersionKind().Kind + " " + o.GetObjectMeta().GetNamespace() + "/" + o.GetObjectMeta().GetName()
	}
	return all
}
