package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

// The conditions of a Trigger. It is Ready when all are true.
const (
	// TriggerBusReady says that the bus exists and can be reached.
	TriggerBusReady = EventSourceBusReady
	// TriggerInputsResolved says that every input's event exists, may be used and is on the Trigger's bus.
	TriggerInputsResolved apis.ConditionType = "InputsResolved"
	// TriggerSubscribersReady says that every subscription exists on the bus and every sink leads to a URL.
	TriggerSubscribersReady apis.ConditionType = "SubscribersReady"
)

var triggerConditions = apis.NewLivingConditionSet(TriggerBusReady, TriggerInputsResolved, TriggerSubscribersReady)

var _ duckv1.KRShaped = (*Trigger)(nil)

// GetGroupVersionKind names the kind in owner references.
func (*Trigger) GetGroupVersionKind() schema.GroupVersionKind {
	return SchemeGroupVersion.WithKind("Trigger")
}

// GetConditionSet returns the conditions that Ready is made of.
func (*Trigger) GetConditionSet() apis.ConditionSet { return triggerConditions }

// GetStatus returns the part of the status that every kind has.
func (t *Trigger) GetStatus() *duckv1.Status { return &t.Status.Status }

// Mark says what is known of all parts.
func (s *TriggerStatus) Mark(bus, inputs, subscribers Verdict) {
	s.mark(triggerConditions.Manage(s), part{TriggerBusReady, bus}, part{TriggerInputsResolved, inputs}, part{TriggerSubscribersReady, subscribers})
}
