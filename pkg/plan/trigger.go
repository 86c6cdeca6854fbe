package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// trigger adds the subscribers of t. If one of its inputs is broken it adds none: a condition over the others could fire wrongly.
func (c *compiler) trigger(t *v1alpha1.Trigger) {
	o := object{"Trigger", t.Namespace, t.Name}
	r := c.reader(o)
	b := c.bus(o, t.Spec.BusName())
	inputs := c.inputs(r, t, b)
	window := r.duration("spec.window", t.Spec.Window, time.Minute)
	runs := b != nil && r.failed == ""

	for i, id := range subscriberIDs(t) {
		s, its := c.subscriber(o, fmt.Sprintf("spec.subscribers[%d]", i), &t.Spec.Subscribers[i])
		s.ID, s.Window = id, window
		if r.failed == "" {
			s.Inputs = inputs
		}
		switch {
		case runs && its.failed == "":
			s.Bus = b.plan.Name
			c.plan.Subscribers = append(c.plan.Subscribers, s)
		case !r.final && !its.final:
			c.plan.Waiting = append(c.plan.Waiting, s.waiting())
		}
	}
}

// subscriberIDs returns an ID for each subscriber of t, made of what it leads to. The first of two that lead to the same is told apart
// from the second by their order alone.
func subscriberIDs(t *v1alpha1.Trigger) []string {
	ids := make([]string, len(t.Spec.Subscribers))
	seen := map[[2]string]int{}
	for i, s := range t.Spec.Subscribers {
		targets := [2]string{identity(s.Sink, t.Namespace), s.Topic}
		ids[i] = subscriberID([]string{t.Namespace, t.Name}, targets[0], targets[1], strconv.Itoa(seen[targets]))
		seen[targets]++
	}
	return ids
}

// subscriber returns what is particular to one subscriber, and who has read it.
func (c *compiler) subscriber(o object, path string, spec *v1alpha1.Subscriber) (Subscriber, *reader) {
	r := c.reader(o)
	s := Subscriber{
		Trigger:         o.namespace + "/" + o.name,
		Condition:       spec.Condition,
		Match:           cmp.Or(spec.Match, v1alpha1.MatchOnce),
		All:             spec.Payload == v1alpha1.PayloadAll,
		Sink:            r.target(path+".sink", spec.Sink),
		Topic:           spec.Topic,
		DeadLetter:      r.target(path+".deadLetterSink", spec.DeadLetterSink),
		DeadLetterTopic: cmp.Or(spec.DeadLetterTopic, DeadLetterTopic(o.namespace, o.name)),
		Delivery:        r.delivery(path+".delivery", spec.Delivery),
	}
	if s.Topic == s.DeadLetterTopic {
		r.problem(path+".deadLetterTopic", ReasonInvalid, "%q is the topic that events could not be delivered to; name another", s.Topic)
	}
	return s, r
}

// inputs returns the inputs of t that are not broken, sorted by name. b may be nil.
func (c *compiler) inputs(r *reader, t *v1alpha1.Trigger, b *bus) []Input {
	var inputs []Input
	for _, name := range slices.Sorted(maps.Keys(t.Spec.Inputs)) {
		spec := cmp.Or(t.Spec.Inputs[name], &v1alpha1.Input{})
		if in, ok := c.input(r, fmt.Sprintf("spec.inputs[%s]", name), spec, b); ok {
			in.Name = name
			inputs = append(inputs, in)
		}
	}
	return inputs
}

func (c *compiler) input(r *reader, path string, in *v1alpha1.Input, b *bus) (Input, bool) {
	o := object{"EventSource", cmp.Or(in.Namespace, r.o.namespace), in.EventSource}
	es := c.eventSources[o]
	if es == nil {
		r.problem(path+".eventSource", ReasonEventSourceNotFound, "no %s%s", o, c.near(o, r.o.namespace))
		return Input{}, false
	}
	if !allows(es, r.o.namespace) {
		r.problem(path+".namespace", ReasonNotAllowed, "%s does not allow Triggers of namespace %s; add it to the spec.allowedNamespaces there", o, r.o.namespace)
		return Input{}, false
	}
	all := events(es)
	kinds := all[in.Event]
	if kinds == nil {
		r.problem(path+".event", ReasonEventNotFound, "%s has no event %q%s", o, in.Event, thereAre(slices.Sorted(maps.Keys(all))))
		return Input{}, false
	}
	if in.Kind != "" && !slices.Contains(kinds, in.Kind) {
		r.problem(path+".kind", ReasonEventNotFound, "%s has no %s event %q; its event of that name is of kind %s", o, in.Kind, in.Event, strings.Join(kinds, " and "))
		return Input{}, false
	}
	if !c.sameBus(r, path+".eventSource", es, b) {
		return Input{}, false
	}
	i := Input{Topic: Topic(es.Namespace, es.Name, in.Event)}
	if len(kinds) > 1 {
		i.Kind = in.Kind
	}
	return i, true
}

// sameBus reports whether es publishes on b. When b is nil the Trigger has that problem already.
func (c *compiler) sameBus(r *reader, path string, es *v1alpha1.EventSource, b *bus) bool {
	o := object{"EventSource", es.Namespace, es.Name}
	if es.Spec.EventBus == "" {
		r.problem(path, ReasonBusMismatch, "%s has no event bus, so no Trigger can listen to it; set its spec.eventBus", o)
		return false
	}
	if b == nil {
		return true
	}
	its := c.lookup(es.Namespace, es.Spec.EventBus)
	switch {
	case its == b:
		return true
	case its == nil:
		r.problem(path, ReasonBusMismatch, "%s names the event bus %q, which does not exist; the Trigger listens on %s", o, es.Spec.EventBus, b.plan.Name)
	case es.Namespace != r.o.namespace:
		r.problem(path, ReasonBusMismatch, "%s publishes on %s, the Trigger listens on %s; across namespaces both must use one ClusterEventBus", o, its.plan.Name, b.plan.Name)
	default:
		r.problem(path, ReasonBusMismatch, "%s publishes on %s, the Trigger listens on %s; name the same spec.eventBus in both", o, its.plan.Name, b.plan.Name)
	}
	return false
}

// allows tells whether Triggers of namespace may use the events of es.
func allows(es *v1alpha1.EventSource, namespace string) bool {
	return es.Namespace == namespace || slices.Contains(es.Spec.AllowedNamespaces, namespace) || slices.Contains(es.Spec.AllowedNamespaces, "*")
}
