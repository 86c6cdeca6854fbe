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

// MarkBusReady says that the bus can be used.
func (s *TriggerStatus) MarkBusReady() { s.manage().MarkTrue(TriggerBusReady) }

// MarkBusNotFound says that there is neither an EventBus nor a ClusterEventBus of the name.
func (s *TriggerStatus) MarkBusNotFound(name string) { markBusNotFound(s.manage(), name) }

// MarkBusNotReady says why the bus cannot be used yet.
func (s *TriggerStatus) MarkBusNotReady(reason, format string, args ...any) {
	s.manage().MarkUnknown(TriggerBusReady, reason, format, args...)
}

// MarkInputsResolved says that every input's event exists and may be used.
func (s *TriggerStatus) MarkInputsResolved() { s.manage().MarkTrue(TriggerInputsResolved) }

// MarkInputsNotResolved says which input cannot be used, and why.
func (s *TriggerStatus) MarkInputsNotResolved(reason, format string, args ...any) {
	s.manage().MarkFalse(TriggerInputsResolved, reason, format, args...)
}

// MarkSubscribersReady says that nothing published from now on is missed.
func (s *TriggerStatus) MarkSubscribersReady() { s.manage().MarkTrue(TriggerSubscribersReady) }

// MarkSubscribersPending says what is still to come.
func (s *TriggerStatus) MarkSubscribersPending(reason, format string, args ...any) {
	s.manage().MarkUnknown(TriggerSubscribersReady, reason, format, args...)
}

// MarkSubscribersFailed says why a subscriber cannot be served.
func (s *TriggerStatus) MarkSubscribersFailed(reason, format string, args ...any) {
	s.manage().MarkFalse(TriggerSubscribersReady, reason, format, args...)
}

func (s *TriggerStatus) manage() apis.ConditionManager { return triggerConditions.Manage(s) }
