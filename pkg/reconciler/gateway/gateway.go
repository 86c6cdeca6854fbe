package gateway

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"knative.dev/pkg/controller"
	pkgreconciler "knative.dev/pkg/reconciler"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	listers "github.com/openfunction/events/pkg/client/listers/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/objects"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

// reconciler writes the plan of the shared gateway. It has one key.
type reconciler struct {
	pkgreconciler.LeaderAwareFuncs

	key     types.NamespacedName
	objects *objects.Reader
	secrets *secrets
	pace    pace
	clients *workload.Clients
	// recorder writes Kubernetes Events; told is whether the latest was that the plan is too large.
	recorder record.EventRecorder
	told     bool

	eventSources      listers.EventSourceLister
	eventBuses        listers.EventBusLister
	clusterEventBuses listers.ClusterEventBusLister
}

var (
	_ controller.Reconciler     = (*reconciler)(nil)
	_ pkgreconciler.LeaderAware = (*reconciler)(nil)
)

// Reconcile writes the plan that all objects together ask for. It looks again after a while even if no informer tells of a change.
func (r *reconciler) Reconcile(ctx context.Context, key string) error {
	if !r.IsLeaderFor(r.key) {
		return controller.NewSkipKey(key)
	}
	end := r.pace.begin(time.Now())
	defer func() { end(time.Now()) }()
	r.secrets.forget()
	p := &pass{}
	if err := r.compile(ctx, p); err != nil {
		return err
	}
	err := r.clients.SharedPlan(ctx, &p.plan)
	large, _ := errors.AsType[*workload.TooLargeError](err)
	r.tell(large)
	if large != nil { // Trying again cures nothing: the next change does.
		err = nil
	}
	switch {
	case err != nil || p.unread != nil:
		return errors.Join(err, p.unread)
	case p.waits:
		return controller.NewRequeueAfter(retry)
	}
	return controller.NewRequeueAfter(refresh)
}

// tell says in a Kubernetes Event of the gateway that its plan is too large, once until that is over.
func (r *reconciler) tell(large *workload.TooLargeError) {
	if large != nil && !r.told {
		r.recorder.Event(&corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: r.key.Namespace, Name: "events-gateway"},
			corev1.EventTypeWarning, workload.ReasonTooLarge, large.Error())
	}
	r.told = large != nil
}

// pass is what one look at all objects finds.
type pass struct {
	plan plan.Plan
	// unread is what could not be read just now.
	unread error
	// waits is true if something may pass without being told.
	waits bool
}

// compile adds the shared parts of all EventSources and all buses.
func (r *reconciler) compile(ctx context.Context, p *pass) error {
	eventBuses, err := r.eventBuses.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, o := range eventBuses {
		p.addBus(r.objects.EventBus(ctx, o))
	}
	clusterEventBuses, err := r.clusterEventBuses.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, o := range clusterEventBuses {
		p.addBus(r.objects.ClusterEventBus(ctx, o))
	}
	eventSources, err := r.eventSources.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, es := range eventSources {
		if len(es.Spec.HTTP) > 0 || es.Spec.Sink != nil { // otherwise it has no part here
			compiled, err := r.objects.EventSource(ctx, es)
			p.addEventSource(es, compiled, err)
		}
	}
	return nil
}

// addBus leaves out a bus with problems: an informer tells of whatever ends them.
func (p *pass) addBus(b *plan.Bus, _ []plan.Problem, err error) {
	if b != nil {
		p.plan.Buses = append(p.plan.Buses, *b)
	}
	p.unread = errors.Join(p.unread, err)
}

func (p *pass) addEventSource(es *v1alpha1.EventSource, compiled *objects.Compiled, err error) {
	if err != nil {
		p.unread = errors.Join(p.unread, err)
		compiled = &objects.Compiled{Plan: plan.Declared(plan.Objects{EventSources: []*v1alpha1.EventSource{es}})}
	}
	p.waits = p.waits || compiled.Plan.Waits()
	_, shared := objects.Split(es, compiled.Plan)
	p.plan.Sources = append(p.plan.Sources, shared.Sources...)
	p.plan.Subscribers = append(p.plan.Subscribers, shared.Subscribers...)
	p.plan.WaitingSources = append(p.plan.WaitingSources, shared.WaitingSources...)
	p.plan.Waiting = append(p.plan.Waiting, shared.Waiting...)
	p.plan.Remembered = append(p.plan.Remembered, shared.Remembered...)
}
