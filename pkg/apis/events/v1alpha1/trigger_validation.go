package v1alpha1

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"knative.dev/pkg/apis"

	"github.com/openfunction/events/pkg/condition"
)

// The limits of a window. Events that wait for others are held unacknowledged on the bus, so a window of more than a day would have the
// bus keep what nobody will ever ask for.
const (
	minWindow = time.Second
	maxWindow = 24 * time.Hour
)

var inputName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// Validate returns everything that is wrong with the object after SetDefaults, or nil. Some of it may be only warnings.
func (t *Trigger) Validate(ctx context.Context) *apis.FieldError {
	if apis.IsInStatusUpdate(ctx) {
		return nil
	}
	// What was valid once stays valid: a finalizer or a label must never be refused because the rules have grown.
	old, updates := apis.GetBaseline(ctx).(*Trigger)
	if updates = updates && old != nil; updates {
		old = old.DeepCopy()
		old.SetDefaults(ctx)
		now := t.DeepCopy()
		now.SetDefaults(ctx) // what is stored lacks some
		if equality.Semantic.DeepEqual(old.Spec, now.Spec) {
			return nil
		}
	}
	r := newReport()
	r.objectName(t)
	t.Spec.validate(r.field("spec"))
	if updates && t.Spec.EventBus != old.Spec.EventBus {
		r.field("spec").field("eventBus").errorf("cannot be changed from %q: what waits on that bus would be lost; delete the Trigger and create it anew if it may be", old.Spec.EventBus)
	}
	return r.result()
}

func (s *TriggerSpec) validate(r report) {
	r.field("eventBus").required(s.EventBus, "the EventBus or ClusterEventBus that carries the inputs")
	if len(s.Inputs) == 0 {
		r.field("inputs").errorf("is empty: name at least one event, for example inputs: {order: {eventSource: shop, event: order}}")
	}
	for name, input := range s.Inputs {
		at := r.field("inputs").key(name)
		at.inputName(name)
		input.validate(at)
	}
	if len(s.Subscribers) == 0 {
		r.field("subscribers").errorf("is empty: say who gets the events, with a condition and a sink or topic")
	}
	for i := range s.Subscribers {
		s.Subscribers[i].validate(r.field("subscribers").index(i))
	}
	s.validateConditions(r)
	if s.Window != "" {
		r.field("window").duration(s.Window, minWindow, maxWindow)
	}
	if s.LogLevel != nil {
		r.field("logLevel").logLevel(*s.LogLevel)
	}
}

// inputName checks a name that conditions use.
func (r report) inputName(name string) {
	if !inputName.MatchString(name) {
		r.errorf(`%q cannot be a name in a condition: use letters, digits, "-" and "_", with a letter or "_" first`, name)
		return
	}
	if reserved(name) {
		r.errorf("%q has a meaning of its own in a condition: choose another name", name)
	}
}

// reserved reports whether a condition cannot use the name for an input.
func reserved(name string) bool {
	_, err := condition.Parse(name, []string{name})
	return err != nil
}

// validateConditions also warns of inputs that no condition names. Without inputs, that is the mistake, not what conditions make of it.
func (s *TriggerSpec) validateConditions(r report) {
	if len(s.Inputs) == 0 {
		return
	}
	inputs, used, wrong := slices.Sorted(maps.Keys(s.Inputs)), map[string]bool{}, false
	for i, sub := range s.Subscribers {
		at := r.field("subscribers").index(i).field("condition")
		if strings.TrimSpace(sub.Condition) == "" {
			at.errorf("is empty: write when to fire, at the least the name of an input")
			wrong = true
			continue
		}
		c, err := condition.Parse(sub.Condition, inputs)
		if err != nil {
			at.errorf("%v", err)
			wrong = true
			continue
		}
		for _, name := range c.Inputs() {
			used[name] = true
		}
	}
	for _, name := range inputs {
		if !wrong && len(s.Subscribers) > 0 && !used[name] && !reserved(name) {
			r.field("inputs").key(name).warnf("occurs in no condition, so its events are not used: name it in one, or leave it out")
		}
	}
}

func (in *Input) validate(r report) {
	if in == nil {
		r.errorf("is empty: name an eventSource and one of its events")
		return
	}
	r.field("eventSource").required(in.EventSource, "the EventSource that has the event")
	r.field("event").required(in.Event, "one of the events of the EventSource")
	if in.Namespace != "" {
		r.field("namespace").namespace(in.Namespace)
	}
	r.field("kind").oneOf(in.Kind, "http", "kafka", "cron", "redis", "mqtt")
}

func (s *Subscriber) validate(r report) {
	if s.Sink == nil && s.Topic == "" {
		r.errorf("has no target: set sink, topic or both")
	}
	r.field("sink").sink(s.Sink)
	r.field("topic").topic(s.Topic)
	r.field("deadLetterSink").sink(s.DeadLetterSink)
	r.field("deadLetterTopic").topic(s.DeadLetterTopic)
	s.Delivery.validate(r.field("delivery"))
	r.field("match").oneOf(string(s.Match), string(MatchOnce), string(MatchLatest))
	r.field("payload").oneOf(string(s.Payload), string(PayloadEvent), string(PayloadAll))
}
