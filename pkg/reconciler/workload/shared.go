package workload

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/system"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/child"
)

// SharedSecret has the plan of the shared gateway. It is in the system namespace.
const SharedSecret = "events-gateway-plan"

// annotationTooLarge of that Secret has the names of the objects and buses, a line each, that it holds as they were, since it is full.
const annotationTooLarge = "events.openfunction.io/plan-too-large"

var sharedPods = map[string]string{labelName: product, labelComponent: "gateway"}

// Shared is what the shared gateway says of an object (its Owner in plans, or the name of a bus) that should run with this hash. An empty
// hash means that it should not run at all.
func (c *Clients) Shared(ctx context.Context, object, hash string) State {
	pods, err := c.pods(system.Namespace(), sharedPods)
	if err != nil {
		return State{Reason: ReasonGatewayNotReady, Message: err.Error()}
	}
	s := c.state(ctx, pods, map[string]string{object: hash}, func(why string) State {
		return State{Reason: ReasonGatewayNotReady, Message: cmp.Or(why, "the shared gateway has no pod: look at Deployment "+system.Namespace()+"/events-gateway")}
	})
	if s.Reason == ReasonApplying {
		if err := c.leftOut(ctx, object, hash); err != nil {
			return State{Reason: ReasonTooLarge, Message: err.Error()}
		}
	}
	return s
}

// SharedPart is what the shared gateway says of an object of whose plan it runs a part. It is false if there is nothing that it should run.
func (c *Clients) SharedPart(ctx context.Context, owner string, part *plan.Plan) (State, bool) {
	hash := part.Hashes()[owner]
	if part.Waits() { // what the gateway has of that goes on
		if s, err := c.Secrets.Secrets(system.Namespace()).Get(SharedSecret); err == nil {
			hash = plan.Succeed(storedPlan(ctx, s), part).Hashes()[owner]
		}
	}
	if hash == "" {
		return State{}, false
	}
	return c.Shared(ctx, owner, hash), true
}

// SharedSubscriptions are those of part, which is what an EventSource asks of the shared gateway.
func (c *Clients) SharedSubscriptions(ctx context.Context, part *plan.Plan) []v1alpha1.SubscriptionStatus {
	if names := plan.Succeed(nil, part).Subscriptions(); slices.Equal(names, (&plan.Plan{Subscribers: part.Remembered}).Subscriptions()) {
		return names // Nothing was edited: the plan of all need not be read.
	}
	return c.Succeed(ctx, system.Namespace(), SharedSecret, part).Subscriptions()
}

// leftOut says why the plan of the shared gateway does not have an object as it should be, nil if it has, or will.
func (c *Clients) leftOut(ctx context.Context, object, hash string) error {
	s, err := c.Secrets.Secrets(system.Namespace()).Get(SharedSecret)
	if err != nil || !slices.Contains(strings.Split(s.Annotations[annotationTooLarge], "\n"), object) {
		return nil
	}
	if p := storedPlan(ctx, s); p != nil && p.Hashes()[object] == hash {
		return nil
	}
	return &TooLargeError{Namespace: s.Namespace, Name: s.Name}
}

// SharedPlan writes the plan of the shared gateway: next, after the one that is there, see plan.Succeed. It writes nothing when nothing
// changed. A *TooLargeError means that some objects stay there as they were, or do not begin, those that have grown most, since the Secret is full.
func (c *Clients) SharedPlan(ctx context.Context, next *plan.Plan) error {
	ns := system.Namespace()
	follow := succession{next: next, removed: sync.OnceValue(func() []string {
		pods, err := c.pods(ns, sharedPods)
		if err != nil {
			return nil
		}
		return c.removed(ctx, pods)
	})}
	id := child.ID{Kind: "Secret", Namespace: ns, Name: SharedSecret}
	var large *TooLargeError
	_, err := child.Ensure(ctx, id, c.Secrets.Secrets(ns), c.Kube.CoreV1().Secrets(ns), func(s *corev1.Secret) error {
		s.Labels = child.Merged(s.Labels, map[string]string{labelName: product, labelManagedBy: managedBy, labelComponent: "gateway"})
		delete(s.Annotations, annotationTooLarge)
		large = nil
		last := storedPlan(ctx, s)
		p, left := follow.fit(last)
		if left != nil {
			large = &TooLargeError{Namespace: ns, Name: SharedSecret, Objects: left}
			s.Annotations = child.Merged(s.Annotations, map[string]string{annotationTooLarge: strings.Join(left, "\n")})
		}
		if p == nil {
			return nil
		}
		return fillSecret(s, last, p)
	})
	if err == nil && large != nil {
		return large
	}
	return err
}
