package v1alpha1

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

// EventBusReachable says that the bus answers. It is what Ready of an EventBus and a ClusterEventBus is made of.
const EventBusReachable apis.ConditionType = "Reachable"

// EventBusServersReady says whether all servers of a bus with spec.embedded are ready. Ready is not made of it: one of three may be away.
const EventBusServersReady apis.ConditionType = "ServersReady"

var eventBusConditions = apis.NewLivingConditionSet(EventBusReachable)

var (
	_ duckv1.KRShaped = (*EventBus)(nil)
	_ duckv1.KRShaped = (*ClusterEventBus)(nil)
)

// GetGroupVersionKind names the kind in owner references.
func (*EventBus) GetGroupVersionKind() schema.GroupVersionKind {
	return SchemeGroupVersion.WithKind("EventBus")
}

// GetConditionSet returns the conditions that Ready is made of.
func (*EventBus) GetConditionSet() apis.ConditionSet { return eventBusConditions }

// GetStatus returns the part of the status that every kind has.
func (eb *EventBus) GetStatus() *duckv1.Status { return &eb.Status.Status }

// GetGroupVersionKind names the kind in owner references.
func (*ClusterEventBus) GetGroupVersionKind() schema.GroupVersionKind {
	return SchemeGroupVersion.WithKind("ClusterEventBus")
}

// GetConditionSet returns the conditions that Ready is made of.
func (*ClusterEventBus) GetConditionSet() apis.ConditionSet { return eventBusConditions }

// GetStatus returns the part of the status that every kind has.
func (ceb *ClusterEventBus) GetStatus() *duckv1.Status { return &ceb.Status.Status }

// MarkReachable says that the bus answers.
func (s *EventBusStatus) MarkReachable() {
	s.State = "Running"
	eventBusConditions.Manage(s).MarkTrue(EventBusReachable)
}

// MarkLosing says how the bus, which answers, loses events.
func (s *EventBusStatus) MarkLosing(how string) {
	s.State = "Running"
	eventBusConditions.Manage(s).MarkTrueWithReason(EventBusReachable, ReasonLosesEvents, "%s", how)
}

// MarkFull says that the bus answers, and why it did not take the last event.
func (s *EventBusStatus) MarkFull(why string) {
	s.State = "Running"
	eventBusConditions.Manage(s).MarkTrueWithReason(EventBusReachable, ReasonFull, "%s", why)
}

// MarkUnreachable says why the bus does not answer.
func (s *EventBusStatus) MarkUnreachable(reason, format string, args ...any) {
	s.State = "Error"
	eventBusConditions.Manage(s).MarkFalse(EventBusReachable, reason, format, args...)
}

// MarkWaiting says why it is not known, yet, whether the bus answers.
func (s *EventBusStatus) MarkWaiting(format string, args ...any) {
	s.State = "Pending"
	eventBusConditions.Manage(s).MarkUnknown(EventBusReachable, "Waiting", format, args...)
}

// MarkServers says what is known of the servers of a bus with spec.embedded.
func (s *EventBusStatus) MarkServers(v Verdict) {
	m := eventBusConditions.Manage(s)
	switch {
	case v.IsGood():
		m.MarkTrue(EventBusServersReady)
	case v.Status == corev1.ConditionFalse:
		m.MarkFalse(EventBusServersReady, v.Reason, "%s", v.Message)
	default:
		m.MarkUnknown(EventBusServersReady, v.Reason, "%s", v.Message)
	}
}

// MarkNoServers says that the bus has no servers of its own.
func (s *EventBusStatus) MarkNoServers() {
	_ = eventBusConditions.Manage(s).ClearCondition(EventBusServersReady) // It errs for Ready only.
}

// maxUsedBy bounds the names in a status.
const maxUsedBy = 10

// MarkUsers says who uses the bus: the names of EventSources and Triggers, in any order.
func (s *EventBusStatus) MarkUsers(eventSources, triggers []string) {
	s.EventSources, s.Triggers = int32(len(eventSources)), int32(len(triggers))
	s.Users = s.EventSources + s.Triggers
	s.UsedBy = slices.Sorted(slices.Values(slices.Concat(eventSources, triggers)))
	s.UsedBy = s.UsedBy[:min(len(s.UsedBy), maxUsedBy)]
}
