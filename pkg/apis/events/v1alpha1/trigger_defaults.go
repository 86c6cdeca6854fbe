package v1alpha1

import "context"

// SetDefaults fills in what the spec leaves out. Calling it again changes nothing.
func (t *Trigger) SetDefaults(ctx context.Context) {
	s, namespace, defaults := &t.Spec, namespaceOf(t), defaultsFrom(ctx)
	setDefault(&s.EventBus, defaults.EventBus)
	setDefault(&s.Window, defaults.Window)
	for _, input := range s.Inputs {
		if input != nil { // One that is nil is left for validation to refuse.
			setDefault(&input.Namespace, namespace)
		}
	}
	for i := range s.Subscribers {
		sub := &s.Subscribers[i]
		if isStored(ctx) {
			continue
		}
		defaults.setDelivery(&sub.Delivery)
		setSinkDefaults(sub.Sink, namespace)
		setSinkDefaults(sub.DeadLetterSink, namespace)
		setDefault(&sub.Match, MatchOnce)
		setDefault(&sub.Payload, PayloadEvent)
	}
}
