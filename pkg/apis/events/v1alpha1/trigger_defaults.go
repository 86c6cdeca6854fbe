package v1alpha1

import "context"

// SetDefaults fills in what the spec leaves out. Calling it again changes nothing.
func (t *Trigger) SetDefaults(context.Context) {
	s, namespace := &t.Spec, namespaceOf(t)
	setDefault(&s.EventBus, defaultBus)
	setDefault(&s.Window, "60s")
	for _, input := range s.Inputs {
		if input != nil { // One that is nil is left for validation to refuse.
			setDefault(&input.Namespace, namespace)
		}
	}
	for i := range s.Subscribers {
		sub := &s.Subscribers[i]
		setDestinationDefaults(sub.Sink, namespace)
		setDestinationDefaults(sub.DeadLetterSink, namespace)
		setDefault(&sub.Match, MatchOnce)
		setDefault(&sub.Payload, PayloadEvent)
	}
}
