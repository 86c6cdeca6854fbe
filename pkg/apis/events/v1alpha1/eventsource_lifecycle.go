package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

// The conditions of an EventSource. It is Ready when all are true.
const (
	// EventSourceBusReady says that the bus exists and can be reached, or that none is used.
	EventSourceBusReady apis.ConditionType = "BusReady"
	// EventSourceSinkResolved says that sink and deadLetterSink lead to a URL, or that none is used.
	EventSourceSinkResolved apis.ConditionType = "SinkResolved"
	// EventSourceSourcesReady says that every event is being received.
	EventSourceSourcesReady apis.ConditionType = "SourcesReady"
)

var eventSourceConditions = apis.NewLivingConditionSet(EventSourceBusReady, EventSourceSinkResolved, EventSourceSourcesReady)

var _ duckv1.KRShaped = (*EventSource)(nil)

// GetGroupVersionKind names the kind in owner references.
func (*EventSource) GetGroupVersionKind() schema.GroupVersionKind {
	return SchemeGroupVersion.WithKind("EventSource")
}

// GetConditionSet returns the conditions that Ready is made of.
func (*EventSource) GetConditionSet() apis.ConditionSet { return eventSourceConditions }

// GetStatus returns the part of the status that every kind has.
func (es *EventSource) GetStatus() *duckv1.Status { return &es.Status.Status }

// MarkBusReady says that the bus can be used.
func (s *EventSourceStatus) MarkBusReady() { s.manage().MarkTrue(EventSourceBusReady) }

// MarkBusNotUsed says that there is no bus and need not be one.
func (s *EventSourceStatus) MarkBusNotUsed() {
	s.manage().MarkTrueWithReason(EventSourceBusReady, "NotUsed", "spec.eventBus is not set")
}

// MarkBusNotFound says that there is neither an EventBus nor a ClusterEventBus of the name.
func (s *EventSourceStatus) MarkBusNotFound(name string) { markBusNotFound(s.manage(), name) }

// MarkBusNotReady says why the bus cannot be used yet.
func (s *EventSourceStatus) MarkBusNotReady(reason, format string, args ...any) {
	s.manage().MarkUnknown(EventSourceBusReady, reason, format, args...)
}

// MarkSinkResolved says where sink leads.
func (s *EventSourceStatus) MarkSinkResolved(uri *apis.URL) {
	s.SinkURI = uri
	s.manage().MarkTrue(EventSourceSinkResolved)
}

// MarkSinkNotUsed says that there is no sink and need not be one.
func (s *EventSourceStatus) MarkSinkNotUsed() {
	s.SinkURI = nil
	s.manage().MarkTrueWithReason(EventSourceSinkResolved, "NotUsed", "spec.sink is not set")
}

// MarkSinkNotResolved says why sink, or deadLetterSink, leads nowhere.
func (s *EventSourceStatus) MarkSinkNotResolved(reason, format string, args ...any) {
	s.SinkURI = nil
	s.manage().MarkFalse(EventSourceSinkResolved, reason, format, args...)
}

// MarkSourcesReady says that every event is being received.
func (s *EventSourceStatus) MarkSourcesReady() { s.manage().MarkTrue(EventSourceSourcesReady) }

// MarkSourcesPending says what is still to come.
func (s *EventSourceStatus) MarkSourcesPending(reason, format string, args ...any) {
	s.manage().MarkUnknown(EventSourceSourcesReady, reason, format, args...)
}

// MarkSourcesFailed says why events are not received.
func (s *EventSourceStatus) MarkSourcesFailed(reason, format string, args ...any) {
	s.manage().MarkFalse(EventSourceSourcesReady, reason, format, args...)
}

func (s *EventSourceStatus) manage() apis.ConditionManager { return eventSourceConditions.Manage(s) }

// markBusNotFound is the same for all who use a bus.
func markBusNotFound(m apis.ConditionManager, name string) {
	m.MarkFalse(EventSourceBusReady, "BusNotFound", "there is no EventBus %q in the namespace and no ClusterEventBus of that name: create one", name)
}
