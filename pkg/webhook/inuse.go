package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/clustereventbus"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventbus"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventsource"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/trigger"
	listers "github.com/openfunction/events/pkg/client/listers/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// named is how many users of a bus a refusal names.
const named = 5

func isBus(kind string) bool { return kind == "EventBus" || kind == "ClusterEventBus" }

// users knows who uses a bus. What it knows may be a moment old: it protects from a slip of the hand, not from a race.
type users struct {
	buses        listers.EventBusLister
	clusterBuses listers.ClusterEventBusLister
	sources      listers.EventSourceLister
	triggers     listers.TriggerLister
}

func newUsers(ctx context.Context) *users {
	return &users{
		buses: eventbus.Get(ctx).Lister(), clusterBuses: clustereventbus.Get(ctx).Lister(),
		sources: eventsource.Get(ctx).Lister(), triggers: trigger.Get(ctx).Lister(),
	}
}

// admitDelete refuses to delete a bus in use, since the events that wait on it would be lost to their Triggers. Which bus it is only the old
// object tells: a request to delete a collection names none.
func (v *validator) admitDelete(request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if !isBus(request.Kind.Kind) {
		return allow()
	}
	var bus metav1.PartialObjectMetadata
	if err := json.Unmarshal(request.OldObject.Raw, &bus); err != nil || bus.Annotations[v1alpha1.ForceDelete] == "true" {
		return allow() // What is so broken that it has no metadata is nobody's bus.
	}
	found, err := v.users.of(bus.Namespace, bus.Name)
	if err != nil {
		return conflict(request, bus.Name, fmt.Sprintf("cannot find out who uses it: %v", err))
	}
	if len(found) == 0 {
		return allow()
	}
	return conflict(request, bus.Name, fmt.Sprintf("is used by %s: delete them first, or %s", list(found), insist))
}

// insist is what somebody does who knows better.
const insist = `set the annotation ` + v1alpha1.ForceDelete + `: "true" on it`

// admitInPlace refuses a new EventBus that takes the place of a ClusterEventBus for objects of its namespace, unless it leads to the same
// broker: what waits for them there would not be delivered. It is nil when there is nothing to refuse.
func (v *validator) admitInPlace(request *admissionv1.AdmissionRequest, eb *v1alpha1.EventBus) *admissionv1.AdmissionResponse {
	if eb.Annotations[v1alpha1.ForceDelete] == "true" {
		return nil
	}
	ceb, err := v.users.clusterBuses.Get(eb.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	var found []string
	if err == nil {
		found, err = v.users.of(request.Namespace, eb.Name)
	}
	switch {
	case err != nil:
		return conflict(request, eb.Name, fmt.Sprintf("cannot find out whose bus it becomes: %v", err))
	case len(found) == 0:
		return nil
	case plan.SameBroker(plan.Broker("EventBus", request.Namespace, eb.Name, &eb.Spec), plan.Broker("ClusterEventBus", "", ceb.Name, &ceb.Spec)):
		return nil
	}
	return conflict(request, eb.Name, fmt.Sprintf("would take the place of the ClusterEventBus of that name for %s, and what waits for them there "+
		"would not be delivered: choose another name, delete them first, or %s", list(found), insist))
}

// withUsers lets the validation of a bus that changes see who uses it, unless its owner insists.
func (v *validator) withUsers(ctx context.Context, request *admissionv1.AdmissionRequest) (context.Context, error) {
	var bus metav1.PartialObjectMetadata
	if !isBus(request.Kind.Kind) || json.Unmarshal(request.Object.Raw, &bus) != nil || bus.Annotations[v1alpha1.ForceDelete] == "true" {
		return ctx, nil
	}
	found, err := v.users.of(request.Namespace, request.Name)
	return v1alpha1.WithUsers(ctx, list(found)), err
}

// list names the first of the users.
func list(users []string) string {
	who := strings.Join(users[:min(len(users), named)], ", ")
	if more := len(users) - named; more > 0 {
		who += fmt.Sprintf(" and %d more", more)
	}
	return who
}

// of returns the users of the EventBus in the namespace or, without one, of the ClusterEventBus. Users that are being deleted do not
// count, so that a whole namespace can go.
func (u *users) of(namespace, bus string) ([]string, error) {
	sources, err := u.sources.EventSources(namespace).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	triggers, err := u.triggers.Triggers(namespace).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	var found []string
	add := func(kind, uses string, o metav1.Object) {
		if err == nil && uses == bus && o.GetDeletionTimestamp() == nil {
			var shadowed bool
			if shadowed, err = u.shadowed(namespace, o.GetNamespace(), bus); !shadowed {
				found = append(found, kind+" "+o.GetNamespace()+"/"+o.GetName())
			}
		}
	}
	for _, es := range sources {
		add("EventSource", es.Spec.BusName(), es)
	}
	for _, t := range triggers {
		add("Trigger", t.Spec.BusName(), t)
	}
	slices.Sort(found)
	return found, err
}

// shadowed reports whether a user of a ClusterEventBus has an EventBus of that name in its own namespace, which it uses instead.
func (u *users) shadowed(busNamespace, userNamespace, bus string) (bool, error) {
	if busNamespace != "" {
		return false, nil
	}
	_, err := u.buses.EventBuses(userNamespace).Get(bus)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

func conflict(request *admissionv1.AdmissionRequest, name, message string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusConflict, Reason: metav1.StatusReasonConflict,
		Message: fmt.Sprintf("%s %s: %s", request.Kind.Kind, name, message),
		Details: &metav1.StatusDetails{Group: request.Kind.Group, Kind: request.Kind.Kind, Name: name},
	}}
}
