package v1alpha1

import (
	"context"
	"encoding/json"
	"mime"

	"k8s.io/apimachinery/pkg/api/equality"
	"knative.dev/pkg/apis"
)

// maxBodyBytes is the most that a request's body may be allowed to have.
const maxBodyBytes = 32 << 20

// maxEvents bounds the room that one EventSource takes in the plan of the shared gateway, which is one Secret for all: 1000 events with a token
// each take some 35 KB of its 1 MiB.
const maxEvents = 1000

// Validate returns everything that is wrong with the object after SetDefaults, or nil. Some of it may be only warnings.
func (es *EventSource) Validate(ctx context.Context) *apis.FieldError {
	if apis.IsInStatusUpdate(ctx) {
		return nil
	}
	// What was valid once stays valid: a finalizer or a label must never be refused because the rules have grown.
	old, updates := apis.GetBaseline(ctx).(*EventSource)
	if updates = updates && old != nil; updates {
		old = old.DeepCopy()
		old.SetDefaults(ctx)
		if equality.Semantic.DeepEqual(old.Spec, es.Spec) {
			return nil
		}
	}
	r := newReport()
	r.objectName(es)
	es.Spec.validate(r.field("spec"))
	if updates && old.Spec.Sink != nil && old.Spec.EventBus != "" && es.Spec.EventBus != old.Spec.EventBus {
		r.field("spec").field("eventBus").errorf("cannot be changed from %q: what waits on that bus for the sink would be lost; delete the EventSource and create it anew if it may be", old.Spec.EventBus)
	}
	if updates {
		es.keepConsumers(r, old)
	}
	return r.result()
}

// keepConsumers refuses what would leave events to nobody that wait for old where they come from, and warns of what may.
func (es *EventSource) keepConsumers(r report, old *EventSource) {
	now := es.Consumers()
	for _, c := range old.Consumers() {
		if c.Group == "" || es.Spec.MQTT[c.Event] != nil { // a member of a group takes what waits before it goes
			c.left(r, now)
		}
	}
}

func (s *EventSourceSpec) validate(r report) {
	if s.EventBus == "" && s.Sink == nil {
		r.errorf("must set eventBus or sink: the events have nowhere to go")
	}
	if s.EventBus != "" {
		r.field("eventBus").name(s.EventBus)
	}
	r.field("sink").sink(s.Sink)
	r.field("deadLetterSink").sink(s.DeadLetterSink)
	s.Delivery.validate(r.field("delivery"))
	switch {
	case s.Sink == nil:
		s.validateNoSink(r)
	case s.EventBus == "":
		s.validateNoBus(r)
	}
	for i, ns := range s.AllowedNamespaces {
		if ns != "*" {
			r.field("allowedNamespaces").index(i).namespace(ns)
		}
	}
	r.field("logLevel").logLevel(s.LogLevel)
	if s.LogLevel != "" && len(s.HTTP) > 0 && len(s.HTTP) == s.events() {
		r.field("logLevel").warnf("is not used: http events are served by the shared gateway, which has one level for all; leave it out")
	}
	if s.Build != nil {
		r.field("build").warnf("is accepted and not used: nothing is built, leave it out")
	}
	switch n := s.events(); {
	case n == 0:
		r.errorf(`declares no event: add at least one below http, kafka, cron, redis or mqtt, for example cron: {tick: {schedule: "@every 5s"}}`)
	case n > maxEvents:
		r.errorf("declares %d events, and %d is the most: divide them among several EventSources", n, maxEvents)
	}
	validateEvents(r.field("http"), s.HTTP, (*HTTPSpec).validate)
	validateEvents(r.field("cron"), s.Cron, (*CronSpec).validate)
	validateEvents(r.field("kafka"), s.Kafka, (*KafkaSpec).validate)
	validateEvents(r.field("redis"), s.Redis, (*RedisSpec).validate)
	validateEvents(r.field("mqtt"), s.MQTT, (*MQTTSpec).validate)
}

// validateNoSink refuses what only a direct sink uses.
func (s *EventSourceSpec) validateNoSink(r report) {
	if s.DeadLetterSink != nil {
		r.field("deadLetterSink").errorf("is for events that spec.sink did not take, and there is no spec.sink: add one, or set deadLetterSink on the subscriber of a Trigger")
	}
	if s.Delivery != nil {
		r.field("delivery").errorf("says how events are delivered to spec.sink, and there is no spec.sink: add one, or set delivery on the subscriber of a Trigger")
	}
}

// validateNoBus warns of what has no effect where the source itself delivers to the sink.
func (s *EventSourceSpec) validateNoBus(r report) {
	calls := len(s.HTTP) > 0 && len(s.HTTP) == s.events()
	const unused = "is not used: without eventBus, an http event is one call to the sink, whose caller gets the answer and tries again; set eventBus too, or leave it out"
	if calls && s.DeadLetterSink != nil {
		r.field("deadLetterSink").warnf(unused)
	}
	d := s.Delivery
	if d == nil {
		return
	}
	r = r.field("delivery")
	if d.Ordering != nil && *d.Ordering == OrderingKey {
		r.field("ordering").warnf("is not used: it is for what waits on an event bus; set eventBus too, or leave it out")
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"retry", d.Retry != nil && *d.Retry > 0},
		{"backoffPolicy", d.BackoffPolicy != nil},
		{"backoffDelay", d.BackoffDelay != nil},
		{"retryAfterMax", d.RetryAfterMax != nil},
	} {
		if calls && f.set {
			r.field(f.name).warnf(unused)
		}
	}
}

// events is how many events s declares.
func (s *EventSourceSpec) events() int {
	return len(s.HTTP) + len(s.Kafka) + len(s.Cron) + len(s.Redis) + len(s.MQTT)
}

// validateEvents checks the events of a kind and their names.
func validateEvents[T any](r report, events map[string]*T, validate func(*T, report)) {
	for name, spec := range events {
		at := r.key(name)
		at.name(name)
		if spec == nil {
			at.errorf("is empty: write its fields below the name, or {} when all have defaults")
			continue
		}
		validate(spec, at)
	}
}

func (s *CronSpec) validate(r report) {
	zone := s.TimeZone
	if _, err := loadZone(zone); err != nil {
		r.field("timeZone").errorf("%v", err)
		zone = "UTC" // The schedule is still checked.
	}
	if _, err := ParseSchedule(s.Schedule, zone); err != nil {
		r.field("schedule").errorf("%v", err)
	}
	s.validateData(r)
}

func (s *CronSpec) validateData(r report) {
	media := "application/json"
	if s.ContentType != "" {
		var err error
		if media, _, err = mime.ParseMediaType(s.ContentType); err != nil {
			r.field("contentType").errorf("%q is not a media type: write for example application/json or text/plain", s.ContentType)
			return
		}
	}
	if s.Data != nil && media == "application/json" && !json.Valid([]byte(*s.Data)) {
		r.field("data").errorf("is not JSON, which contentType says it is: correct it, or set contentType to what it is, for example text/plain")
	}
}
