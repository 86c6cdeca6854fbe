package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// Reasons of problems, in the form that Kubernetes conditions want.
const (
	// ReasonBusNotFound means that no bus has that name, yet.
	ReasonBusNotFound = "BusNotFound"
	// ReasonBusNotReady means that the bus has a problem of its own.
	ReasonBusNotReady = "BusNotReady"
	// ReasonBusMismatch means that a Trigger does not listen where its input is published.
	ReasonBusMismatch = "BusMismatch"
	// ReasonEventSourceNotFound means that no EventSource has that name, yet.
	ReasonEventSourceNotFound = "EventSourceNotFound"
	// ReasonEventNotFound means that the EventSource has no such event, yet.
	ReasonEventNotFound = "EventNotFound"
	// ReasonNotAllowed means that the EventSource does not allow the Trigger's namespace.
	ReasonNotAllowed = "NotAllowed"
	// ReasonSinkNotResolved means that it is not known, yet, where a sink or dead-letter sink leads.
	ReasonSinkNotResolved = "SinkNotResolved"
	// ReasonSecretNotFound means that a Secret or a key of it could not be read.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretInvalid means that what a Secret holds cannot be what the field wants.
	ReasonSecretInvalid = "SecretInvalid"
	// ReasonInvalid means that validation should have refused it.
	ReasonInvalid = "Invalid"
)

// Problem is what keeps one part of one object from running. It never holds the value of a secret.
type Problem struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"` // empty for a ClusterEventBus
	Name      string `json:"name"`
	// Path of the field to look at, for example spec.subscribers[1].sink.
	Path    string `json:"path"`
	Message string `json:"message"`
	// Reason is one of the constants above.
	Reason string `json:"reason"`
}

var _ error = Problem{}

// Error reads `Trigger default/t: spec.subscribers[1].sink: ...`.
func (p Problem) Error() string {
	return fmt.Sprintf("%s: %s: %s", object{p.Kind, p.Namespace, p.Name}, p.Path, p.Message)
}

// object is what problems are about and plans refer to.
type object struct{ kind, namespace, name string }

// String is the name that a person and a plan use.
func (o object) String() string {
	if o.namespace == "" {
		return o.kind + " " + o.name
	}
	return o.kind + " " + o.namespace + "/" + o.name
}

func (c *compiler) problem(o object, path, reason, format string, args ...any) {
	c.problems = append(c.problems, Problem{
		Kind: o.kind, Namespace: o.namespace, Name: o.name,
		Path: path, Reason: reason, Message: fmt.Sprintf(format, args...),
	})
}

func sortProblems(ps []Problem) {
	slices.SortFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
}
