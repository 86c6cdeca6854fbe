// Package workload runs plans in a cluster: a Deployment each, with its Secret and rights, and what the gateways in it say.
//
// For that the controller needs, in all namespaces:
//
//	apps: deployments; "": secrets, serviceaccounts; rbac.authorization.k8s.io: roles, rolebindings: get, list, watch, create, update, delete
//	"": pods: list, watch
//	events.openfunction.io: eventsources/finalizers, triggers/finalizers: update
//
// A gateway may get, list and watch its Secret, and only those who may do that themselves can give that right.
package workload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/kmeta"

	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/child"
)

// Workload is a plan that runs in a Deployment of its own.
type Workload struct {
	// Owner is whose workload it is. Its namespace is the workload's.
	Owner kmeta.OwnerRefable
	// Name of all children, which need not be shortened.
	Name string
	// Component is "eventsource" or "trigger".
	Component string
	// Plan is what to run, and what of the last one goes on, see plan.Succeed; nil is an empty one.
	Plan *plan.Plan
	// LogLevel of the gateway; empty means info.
	LogLevel string
	// Scaled says that something else decides on the number of replicas, unless there may be only one.
	Scaled bool

	// alone says that there may be only one, see Alone.
	alone bool
}

// The reasons why a State is not ready.
const (
	// ReasonNotOwned is that a child's name is taken by somebody else's object, which is left alone.
	ReasonNotOwned = "NotOwned"
	// ReasonPredecessorLeaves is that a child's name is taken by that of an owner of the same name that was deleted, which goes by itself.
	ReasonPredecessorLeaves = "PredecessorLeaves"
	// ReasonRefused is that the API server does not take a child, because of a quota or a policy say.
	ReasonRefused = "Refused"
	// ReasonTooLarge is that the plan does not fit into a Secret, and the one before goes on.
	ReasonTooLarge = "PlanTooLarge"
	// ReasonStarting is that no gateway of the workload is ready.
	ReasonStarting = "Starting"
	// ReasonGatewayNotReady is that no shared gateway is ready.
	ReasonGatewayNotReady = "GatewayNotReady"
	// ReasonNoReport is that a gateway is ready but does not tell the controller what it runs.
	ReasonNoReport = "NoReport"
	// ReasonApplying is that a gateway does not run the latest plan yet, or is just beginning to.
	ReasonApplying = "Applying"
	// ReasonNotApplied is that a gateway cannot run the latest plan, and goes on with the one before.
	ReasonNotApplied = "NotApplied"
	// ReasonUnreachable is that a gateway runs the latest plan, and something that it needs does not answer.
	ReasonUnreachable = "Unreachable"
)

// State is what is seen of a workload. Ready means that every ready gateway reports what it should and no problem. Otherwise Reason is
// one of the above, and Message a sentence for people.
type State struct {
	Ready           bool
	Reason, Message string
	// Late says of one that is Ready that a gateway does not answer just now, and that this is what it said before: look again soon.
	Late bool
	// Failing says of one that is Ready which targets did not take the last event.
	Failing string
	// Losing says of a bus that is Ready how it loses events.
	Losing string
	// Bus is what the gateways of a workload say of the bus of its plan.
	Bus BusState
}

// BusState is what is seen of a bus.
type BusState struct {
	// Seen means that every gateway has tried the bus as the plan has it.
	Seen bool
	// Problem is what one of them says, if it does not reach the bus.
	Problem string
	// Losing is what one of them says, if the bus loses events.
	Losing string
	// Full is what one of them says, if the bus had no room for an event of late.
	Full string
}

// Apply makes the children as w says, writing only what differs from what is there, and returns what its gateways say. A plan of which
// nothing runs, and nothing goes on, removes the workload; one that only waits for what never ran does nothing. Then the State is empty.
//
// An error will pass, and is worth trying again. Everything that a person has to cure is in the State.
func (c *Clients) Apply(ctx context.Context, w Workload) (State, error) {
	w.Name = Name(w.Name)
	if w.Plan == nil {
		w.Plan = &plan.Plan{}
	}
	if isEmpty(w.Plan) {
		last, err := c.lastPlan(ctx, w)
		switch {
		case err != nil:
			return State{}, err
		case last == nil && w.Plan.Waits(): // a Deployment whose Secret is gone goes on with what it knows
			return State{}, nil
		case isEmpty(c.succeed(ctx, w, last)):
			return State{}, c.remove(ctx, w.Owner, func(name string) bool { return name == w.Name })
		}
	}
	state, err := c.apply(ctx, w)
	if taken, ok := errors.AsType[*child.TakenError](err); ok {
		return Taken(taken), nil
	}
	if large, ok := errors.AsType[*TooLargeError](err); ok {
		return State{Reason: ReasonTooLarge, Message: large.Error()}, nil
	}
	if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsRequestEntityTooLargeError(err) {
		return State{Reason: ReasonRefused, Message: err.Error()}, nil
	}
	return state, err
}

// Taken is the State while something is in the way of a child.
func Taken(err *child.TakenError) State {
	if err.Leaving {
		return State{Reason: ReasonPredecessorLeaves, Message: err.Error()}
	}
	return State{Reason: ReasonNotOwned, Message: err.Error()}
}

func isEmpty(p *plan.Plan) bool { return len(p.Sources)+len(p.Subscribers) == 0 }

// apply goes from what a pod needs to what starts it.
func (c *Clients) apply(ctx context.Context, w Workload) (State, error) {
	ns := w.namespace()
	account, err := child.Ensure(ctx, w.owned("ServiceAccount"), c.ServiceAccounts.ServiceAccounts(ns), c.Kube.CoreV1().ServiceAccounts(ns), w.fillServiceAccount)
	if err != nil {
		return State{}, err
	}
	if _, err := child.Ensure(ctx, w.owned("Role"), c.Roles.Roles(ns), c.Kube.RbacV1().Roles(ns), w.fillRole); err != nil {
		return State{}, err
	}
	if _, err := child.Ensure(ctx, w.owned("RoleBinding"), c.RoleBindings.RoleBindings(ns), c.Kube.RbacV1().RoleBindings(ns), w.fillRoleBinding); err != nil {
		return State{}, err
	}
	var running *plan.Plan
	_, err = child.Ensure(ctx, w.owned("Secret"), c.Secrets.Secrets(ns), c.Kube.CoreV1().Secrets(ns), func(s *corev1.Secret) error {
		last := storedPlan(ctx, s)
		running = c.succeed(ctx, w, last)
		child.FillMeta(s, w.labels(), w.Owner)
		return fillSecret(s, last, running)
	})
	if err != nil {
		return State{}, err
	}
	w.alone = Alone(running)
	d, err := child.Ensure(ctx, w.owned("Deployment"), c.Deployments.Deployments(ns), c.Kube.AppsV1().Deployments(ns), c.fillDeployment(w, account.UID))
	if err != nil {
		return State{}, err
	}
	if w.Scaled && d.Spec.Replicas != nil && *d.Spec.Replicas == 0 {
		return State{Ready: true}, nil
	}
	return c.judge(ctx, w, d, running)
}

// succeed returns the plan that follows last, which may be nil.
func (c *Clients) succeed(ctx context.Context, w Workload, last *plan.Plan) *plan.Plan {
	return succession{next: w.Plan, removed: func() []string {
		pods, err := c.pods(w.namespace(), w.selector())
		if err != nil {
			return nil
		}
		return c.removed(ctx, pods)
	}}.follow(last)
}

// lastPlan is what the workload runs, nil if it does not. The lister may not know yet, and what it does not know would be removed.
func (c *Clients) lastPlan(ctx context.Context, w Workload) (*plan.Plan, error) {
	s, err := c.Kube.CoreV1().Secrets(w.namespace()).Get(ctx, w.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get %s: %w", w.owned("Secret"), err)
	case !metav1.IsControlledBy(s, w.Owner.GetObjectMeta()):
		return nil, nil
	}
	return storedPlan(ctx, s), nil
}

// Succeed returns what the workload of that name is to run if next is to be its plan: see plan.Succeed.
func (c *Clients) Succeed(ctx context.Context, namespace, name string, next *plan.Plan) *plan.Plan {
	s, err := c.Secrets.Secrets(namespace).Get(Name(name))
	if err != nil {
		return plan.Succeed(nil, next)
	}
	return plan.Succeed(storedPlan(ctx, s), next)
}

// HasPlan tells whether there is a Secret of that name.
func (c *Clients) HasPlan(namespace, name string) bool {
	_, err := c.Secrets.Secrets(namespace).Get(Name(name))
	return err == nil
}

// Exists tells whether there is a Deployment of that name.
func (c *Clients) Exists(namespace, name string) bool {
	_, err := c.Deployments.Deployments(namespace).Get(name)
	return err == nil
}

// Runs tells whether owner has a Deployment of that name, or a pod of one may still run.
func (c *Clients) Runs(owner kmeta.OwnerRefable, name string) bool {
	namespace := owner.GetObjectMeta().GetNamespace()
	d, err := c.Deployments.Deployments(namespace).Get(name)
	if err == nil && metav1.IsControlledBy(d, owner.GetObjectMeta()) {
		return true
	}
	pods, err := c.Indexers["pods"].ByIndex(byWorkload, namespace+"/"+name)
	return err != nil || slices.ContainsFunc(pods, func(o any) bool {
		p := o.(*corev1.Pod)
		return !ended(p) && p.Labels[labelOwner+p.Labels[labelComponent]] == Name(owner.GetObjectMeta().GetName())
	})
}

// LogLevel is that of the Deployment of that name, "" without one.
func (c *Clients) LogLevel(namespace, name string) string {
	d, err := c.Deployments.Deployments(namespace).Get(Name(name))
	if err != nil {
		return ""
	}
	for _, o := range d.Spec.Template.Spec.Containers {
		for _, e := range o.Env {
			if o.Name == container && e.Name == envLogLevel {
				return e.Value
			}
		}
	}
	return ""
}

// Idle tells whether there is a Deployment of that name, and it is scaled to zero.
func (c *Clients) Idle(namespace, name string) bool {
	d, err := c.Deployments.Deployments(namespace).Get(name)
	return err == nil && d.Spec.Replicas != nil && *d.Spec.Replicas == 0
}

// Prune deletes the children of owner whose workload's name is not among keep, where names need not be shortened.
func (c *Clients) Prune(ctx context.Context, owner kmeta.OwnerRefable, keep ...string) error {
	return c.remove(ctx, owner, func(name string) bool {
		return !slices.ContainsFunc(keep, func(k string) bool { return Name(k) == name })
	})
}

// remove deletes the children of owner's workloads for whose names it is called for. The Secret comes first: a gateway that stops removes
// its durable subscriptions when it knows that its Secret is gone.
func (c *Clients) remove(ctx context.Context, owner kmeta.OwnerRefable, called func(name string) bool) error {
	ns := owner.GetObjectMeta().GetNamespace()
	return errors.Join(
		remove[corev1.Secret](ctx, owner, called, c.Indexers["secrets"], c.Kube.CoreV1().Secrets(ns)),
		remove[appsv1.Deployment](ctx, owner, called, c.Indexers["deployments"], c.Kube.AppsV1().Deployments(ns)),
		remove[rbacv1.RoleBinding](ctx, owner, called, c.Indexers["rolebindings"], c.Kube.RbacV1().RoleBindings(ns)),
		remove[rbacv1.Role](ctx, owner, called, c.Indexers["roles"], c.Kube.RbacV1().Roles(ns)),
		remove[corev1.ServiceAccount](ctx, owner, called, c.Indexers["serviceaccounts"], c.Kube.CoreV1().ServiceAccounts(ns)),
	)
}

// Name joins the parts of the name of a workload with "-", and shortens it to what a label can hold.
func Name(parts ...string) string { return kmeta.ChildName(strings.Join(parts, "-"), "") }

func (w Workload) namespace() string { return w.Owner.GetObjectMeta().GetNamespace() }

func (w Workload) owned(kind string) child.ID {
	return child.ID{Kind: kind, Namespace: w.namespace(), Name: w.Name, Owner: w.Owner}
}
