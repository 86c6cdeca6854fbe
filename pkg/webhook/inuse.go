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

	"github.com/openfunction/events/pkg/apis/events"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventbus"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventsource"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/trigger"
	listers "github.com/openfunction/events/pkg/client/listers/events/v1alpha1"
)

// ForceDelete is the annotation of a bus that may be deleted while it is in use.
const ForceDelete = events.GroupName + "/force-delete"

// named is how many users of a bus a refusal names.
const named = 5

func isBus(kind string) bool { return kind == "EventBus" || kind == "ClusterEventBus" }

// users knows who uses a bus. What it knows may be a moment old: it protects from a slip of the hand, not from a race.
type users struct {
	buses    listers.EventBusLister
	sources  listers.EventSourceLister
	triggers listers.TriggerLister
}

func newUsers(ctx context.Context) *users {
	return &users{buses: eventbus.Get(ctx).Lister(), sources: eventsource.Get(ctx).Lister(), triggers: trigger.Get(ctx).Lister()}
}

// admitDelete refuses to delete a bus in use, since the events that wait on it would be lost to their Triggers. Which bus it is only the old
// object tells: a request to delete a collection names none.
func (v *validator) admitDelete(request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	if !isBus(request.Kind.Kind) {
		return allow()
	}
	var bus metav1.PartialObjectMetadata
	if err := json.Unmarshal(request.OldObject.Raw, &bus); err != nil || bus.Annotations[ForceDelete] == "true" {
		return allow() // What is so broken that it has no metadata is nobody's bus.
	}
	found, err := v.users.of(bus.Namespace, bus.Name)
	if err != nil {
		return conflict(request, bus.Name, fmt.Sprintf("cannot find out who uses it: %v", err))
	}
	if len(found) == 0 {
		return allow()
	}
	who := strings.Join(found[:min(len(found), named)], ", ")
	if more := len(found) - named; more > 0 {
		who += fmt.Sprintf(" and %d more", more)
	}
	return conflict(request, bus.Name, fmt.Sprintf(`is used by %s: delete them first, or set the annotation %s: "true" on it`, who, ForceDelete))
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
