package v1alpha1

import (
	"context"
	"strings"
)

// The defaults of an EventSource's events.
const (
	// DefaultHTTPType is the type of the CloudEvents that raw bodies become.
	DefaultHTTPType = "io.openfunction.events.http"
	// DefaultMaxBodyBytes bounds the body of a request.
	DefaultMaxBodyBytes int64 = 1 << 20
)

// SetDefaults fills in what the spec leaves out. Calling it again changes nothing.
func (es *EventSource) SetDefaults(ctx context.Context) {
	s, defaults := &es.Spec, defaultsFrom(ctx)
	if s.EventBus == "" && s.Sink == nil {
		s.EventBus = defaults.EventBus
	}
	if s.Sink != nil && !isStored(ctx) {
		defaults.setDelivery(&s.Delivery)
	}
	setSinkDefaults(s.Sink, namespaceOf(es))
	setSinkDefaults(s.DeadLetterSink, namespaceOf(es))
	setEventDefaults(s.HTTP, (*HTTPSpec).setDefaults)
	setEventDefaults(s.Cron, (*CronSpec).setDefaults)
	setEventDefaults(s.Kafka, (*KafkaSpec).setDefaults)
	setEventDefaults(s.MQTT, (*MQTTSpec).setDefaults)
}

// setEventDefaults calls set with every event and its name. An event without a spec is left for validation to refuse.
func setEventDefaults[T any](events map[string]*T, set func(spec *T, name string)) {
	for name, spec := range events {
		if spec != nil {
			set(spec, name)
		}
	}
}

func (s *HTTPSpec) setDefaults(string) {
	setDefaultPointer(&s.MaxBodyBytes, DefaultMaxBodyBytes)
	if s.Raw {
		setDefault(&s.Type, DefaultHTTPType)
	}
}

func (s *CronSpec) setDefaults(string) {
	setDefault(&s.ContentType, "application/json")
	if _, _, ok := cutZone(strings.TrimSpace(s.Schedule)); !ok {
		setDefault(&s.TimeZone, "UTC")
	}
}

func (s *KafkaSpec) setDefaults(name string) {
	setDefault(&s.Topic, name)
	setDefault(&s.InitialOffset, "newest")
	if s.AuthRequired {
		setDefault(&s.SASLMechanism, "PLAIN")
	}
}

func (s *MQTTSpec) setDefaults(string) { setDefaultPointer(&s.QOS, 1) }
