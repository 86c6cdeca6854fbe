package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"
)

// The values of State.
const (
	StateRunning = "Running"
	StatePending = "Pending"
	StateError   = "Error"
)

// Verdict is what is known about one part of an object.
//
// +k8s:deepcopy-gen=false
type Verdict struct {
	Status corev1.ConditionStatus
	// Reason is one word in the form that Kubernetes wants, Message a sentence that one can act on. Both may be empty when Status is true.
	Reason, Message string
}

// Good says that the part is as it should be.
func Good() Verdict { return Verdict{Status: corev1.ConditionTrue} }

// ReasonNotDelivered is that of a part that works, and whose events a target does not take.
const ReasonNotDelivered = "NotDelivered"

// NotDelivered says why events are not taken where the part sends them.
func NotDelivered(message string) Verdict {
	return Verdict{Status: corev1.ConditionTrue, Reason: ReasonNotDelivered, Message: message}
}

// ReasonLosesEvents is that of a bus that works, and whose broker is set up so that it loses events.
const ReasonLosesEvents = "LosesEvents"

// LosesEvents says how the bus loses events.
func LosesEvents(message string) Verdict {
	return Verdict{Status: corev1.ConditionTrue, Reason: ReasonLosesEvents, Message: message}
}

// ReasonFull is that of a bus that works, and had no room for an event of late.
const ReasonFull = "Full"

// Full says what has no room, and what to do.
func Full(message string) Verdict {
	return Verdict{Status: corev1.ConditionTrue, Reason: ReasonFull, Message: message}
}

// NotUsed says that there is no such part and need not be one.
func NotUsed(message string) Verdict {
	return Verdict{Status: corev1.ConditionTrue, Reason: "NotUsed", Message: message}
}

// InSecret says of a part that is as it should be where it is read from, since nothing else is shown of it.
func InSecret(message string) Verdict {
	return Verdict{Status: corev1.ConditionTrue, Reason: "InSecret", Message: message}
}

// Pending says what is still to come.
func Pending(reason, message string) Verdict {
	return Verdict{Status: corev1.ConditionUnknown, Reason: reason, Message: message}
}

// Bad says why the part does not work.
func Bad(reason, message string) Verdict {
	return Verdict{Status: corev1.ConditionFalse, Reason: reason, Message: message}
}

// IsGood tells whether the part does not keep the object from being ready.
func (v Verdict) IsGood() bool { return v.Status == corev1.ConditionTrue }

// worse tells whether v says more about why an object is not ready than o.
func (v Verdict) worse(o Verdict) bool {
	return v.Status == corev1.ConditionFalse && o.Status != corev1.ConditionFalse || !v.IsGood() && o.IsGood()
}

// part is a condition that Ready is made of.
type part struct {
	condition apis.ConditionType
	verdict   Verdict
}

// mark sets the conditions, and Ready and the state by them: the first of those that are False says why the object is not ready, else the
// first of those that are Unknown. It is told here since a condition set takes the one that changed last, which a second look may not see.
func (s *WorkloadStatus) mark(m apis.ConditionManager, parts ...part) {
	ready := Good()
	for _, p := range parts {
		set(m, p.condition, p.verdict)
		if p.verdict.worse(ready) {
			ready = p.verdict
		}
	}
	set(m, apis.ConditionReady, ready)
	s.Message = ready.Message
	switch ready.Status {
	case corev1.ConditionTrue:
		s.State = StateRunning
		for _, p := range parts {
			switch p.verdict.Reason {
			case ReasonNotDelivered, ReasonLosesEvents, ReasonFull:
				s.Message = p.verdict.Message
			}
		}
	case corev1.ConditionFalse:
		s.State = StateError
	default:
		s.State = StatePending
	}
}

func set(m apis.ConditionManager, t apis.ConditionType, v Verdict) {
	m.SetCondition(apis.Condition{Type: t, Status: v.Status, Reason: v.Reason, Message: v.Message})
}
