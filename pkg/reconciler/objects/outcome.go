package objects

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/reconciler/optional"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

// Outcome is what a pass over one object found and did.
type Outcome struct {
	*Compiled
	// States are those of the workloads, by name, and under "" that of the part that the shared gateway runs.
	States map[string]workload.State
	// Notes are worth telling of an object that works.
	Notes []string
	// Again is what failed, and is worth trying again, although the object works.
	Again error
}

// NewOutcome returns the outcome before anything is done.
func NewOutcome(c *Compiled) *Outcome {
	return &Outcome{Compiled: c, States: map[string]workload.State{}}
}

// Optional notes the errors of applying optional children: events flow without them. Unless somebody else has a child's name, or the API
// server refuses it, it is worth trying again.
func (o *Outcome) Optional(err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			o.Optional(err)
		}
		return
	}
	if err == nil {
		return
	}
	o.Notes = append(o.Notes, err.Error())
	if _, taken := err.(*optional.TakenError); !taken && !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
		o.Again = errors.Join(o.Again, err)
	}
}

// Bus says whether the bus of the object can be used. Its own workloads know best; what the shared gateway sees, which is the status of the
// bus, counts where they do not say.
func (o *Outcome) Bus() v1alpha1.Verdict {
	if _, wrong := o.Verdict("spec.eventBus"); wrong || o.Invalid || o.BusName == "" {
		return o.Compiled.Bus()
	}
	seen, losing, full := false, "", ""
	for _, name := range slices.Sorted(maps.Keys(o.States)) {
		bus := o.States[name].Bus
		if bus.Problem != "" {
			return v1alpha1.Bad(workload.ReasonUnreachable, name+": "+bus.Problem)
		}
		seen = seen || bus.Seen
		losing, full = cmp.Or(losing, bus.Losing), cmp.Or(full, bus.Full) // by themselves, since they are the same for all
	}
	switch {
	case losing != "":
		return v1alpha1.LosesEvents(losing)
	case full != "":
		return v1alpha1.Full(full)
	case seen:
		return v1alpha1.Good()
	}
	return o.Compiled.Bus()
}

// Running says whether all workloads are ready. If they are, it is told which targets do not take events, and the notes.
func (o *Outcome) Running() v1alpha1.Verdict {
	var failed, waiting, failing []string
	var fails, waits string
	for _, name := range slices.Sorted(maps.Keys(o.States)) {
		s := o.States[name]
		sentence := cmp.Or(name, "the shared gateway") + ": " + s.Message
		switch {
		case s.Ready && s.Failing != "":
			failing = append(failing, s.Failing)
		case s.Ready:
		case fault(s.Reason):
			failed, fails = append(failed, sentence), s.Reason
		default:
			waiting, waits = append(waiting, sentence), s.Reason
		}
	}
	switch {
	case failed != nil:
		return v1alpha1.Bad(fails, together(failed))
	case waiting != nil:
		return v1alpha1.Pending(waits, together(waiting))
	case failing != nil:
		return v1alpha1.NotDelivered(together(append(failing, o.Notes...)))
	case o.Notes != nil:
		return v1alpha1.Verdict{Status: corev1.ConditionTrue, Reason: "Limited", Message: together(o.Notes)}
	}
	return v1alpha1.Good()
}

// fault tells whether waiting alone does not cure the reason of a state.
func fault(reason string) bool {
	switch reason {
	case workload.ReasonNotOwned, workload.ReasonRefused, workload.ReasonTooLarge, workload.ReasonNotApplied, workload.ReasonUnreachable:
		return true
	}
	return false
}

// together makes one message of several sentences.
func together(sentences []string) string {
	if n := len(sentences) - maxSentences; n > 0 {
		sentences = append(sentences[:maxSentences:maxSentences], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(sentences, "; ")
}
