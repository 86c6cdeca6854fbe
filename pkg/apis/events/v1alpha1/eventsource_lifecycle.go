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

// Mark says what is known of all parts.
func (s *EventSourceStatus) Mark(bus, sink, sources Verdict) {
	s.mark(eventSourceConditions.Manage(s), part{EventSourceBusReady, bus}, part{EventSourceSinkResolved, sink}, part{EventSourceSourcesReady, sources})
}
