package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// sinkWindow is the window of an EventSource's sink: its condition is one event, so it never waits for another.
const sinkWindow = time.Minute

// eventSource adds the sources of es and, when it has a bus and a sink, its sink's subscribers.
func (c *compiler) eventSource(es *v1alpha1.EventSource) {
	o := object{"EventSource", es.Namespace, es.Name}
	r := c.reader(o)
	base := Source{Namespace: es.Namespace, EventSource: es.Name}
	var sink Subscriber
	switch {
	case es.Spec.EventBus != "":
		b := c.bus(o, es.Spec.EventBus)
		if b == nil {
			return
		}
		base.Bus = b.plan.Name
		sink.Bus = b.plan.Name
	case es.Spec.Sink == nil:
		r.problem("spec", ReasonInvalid, "neither eventBus nor sink is set, so events would go nowhere")
		return
	}
	if es.Spec.Sink != nil {
		sink.Sink = r.target("spec.sink", es.Spec.Sink)
		sink.DeadLetter = r.target("spec.deadLetterSink", es.Spec.DeadLetterSink)
		sink.Delivery = r.delivery("spec.delivery", es.Spec.Delivery)
	}
	if base.Bus == "" {
		base.Sink, base.DeadLetter, base.Delivery = sink.Sink, sink.DeadLetter, sink.Delivery
	}
	reachable := r.failed == ""

	all := events(es)
	for _, event := range slices.Sorted(maps.Keys(all)) {
		kinds := all[event]
		s := base
		s.Event = event
		s.MarkKind = len(kinds) > 1
		if s.Bus != "" {
			s.Topic = Topic(es.Namespace, es.Name, event)
		}
		for _, kind := range kinds {
			s.Kind = kind
			// What is wrong with every event is told once, above; what is wrong with this one is told even if it could not run anyway.
			if c.source(&s, es) && (s.Bus != "" || reachable) {
				c.plan.Sources = append(c.plan.Sources, s)
			}
		}
		if s.Bus != "" && es.Spec.Sink != nil && reachable {
			c.plan.Subscribers = append(c.plan.Subscribers, sinkSubscriber(sink, es, event))
		}
	}
}

// sinkSubscriber makes the sink of an EventSource a subscriber of one event's topic. It does not depend on whether the event's
// sources can run: a subscription that comes and goes with them would lose what it holds.
func sinkSubscriber(s Subscriber, es *v1alpha1.EventSource, event string) Subscriber {
	s.ID = subscriberID([]string{es.Namespace, es.Name, "sink"}, event, identity(es.Spec.Sink, es.Namespace))
	s.EventSource = es.Namespace + "/" + es.Name
	s.Inputs = []Input{{Name: "event", Topic: Topic(es.Namespace, es.Name, event)}}
	s.Condition = "event"
	s.Window = sinkWindow
	s.Match = v1alpha1.MatchOnce
	s.DeadLetterTopic = EventSourceDeadLetterTopic(es.Namespace, es.Name)
	return s
}

// events returns the kinds, sorted, of each event's name.
func events(es *v1alpha1.EventSource) map[string][]string {
	m := map[string][]string{}
	add := func(kind string, names []string) {
		for _, n := range names {
			m[n] = append(m[n], kind)
		}
	}
	add(KindCron, slices.Collect(maps.Keys(es.Spec.Cron)))
	add(KindHTTP, slices.Collect(maps.Keys(es.Spec.HTTP)))
	add(KindKafka, slices.Collect(maps.Keys(es.Spec.Kafka)))
	add(KindMQTT, slices.Collect(maps.Keys(es.Spec.MQTT)))
	add(KindRedis, slices.Collect(maps.Keys(es.Spec.Redis)))
	return m
}

// source fills in what is particular to the kind of s and reports whether it can run.
func (c *compiler) source(s *Source, es *v1alpha1.EventSource) bool {
	r := c.reader(object{"EventSource", es.Namespace, es.Name})
	path := fmt.Sprintf("spec.%s[%s]", s.Kind, s.Event)
	s.HTTP, s.Cron, s.Kafka, s.Redis, s.MQTT = nil, nil, nil, nil, nil
	switch s.Kind {
	case KindHTTP:
		s.HTTP = httpSource(es.Spec.HTTP[s.Event])
	case KindCron:
		s.Cron = cronSource(es.Spec.Cron[s.Event])
	case KindKafka:
		s.Kafka = kafkaSource(r, path, s, es.Spec.Kafka[s.Event])
	default:
		r.problem(path, ReasonNotSupported, "%s event sources are not available yet in this version; use http, kafka or cron", s.Kind)
	}
	return r.failed == ""
}

func httpSource(h *v1alpha1.HTTPSpec) *HTTP {
	h = cmp.Or(h, &v1alpha1.HTTPSpec{})
	return &HTTP{
		Raw:          h.Raw,
		Type:         cmp.Or(h.Type, v1alpha1.DefaultHTTPType),
		MaxBodyBytes: value(h.MaxBodyBytes, v1alpha1.DefaultMaxBodyBytes),
	}
}

func cronSource(s *v1alpha1.CronSpec) *Cron {
	s = cmp.Or(s, &v1alpha1.CronSpec{})
	return &Cron{
		Schedule:    s.Schedule,
		TimeZone:    s.TimeZone,
		Data:        s.Data,
		ContentType: cmp.Or(s.ContentType, "application/json"),
	}
}

func kafkaSource(r *reader, path string, s *Source, spec *v1alpha1.KafkaSpec) *Kafka {
	spec = cmp.Or(spec, &v1alpha1.KafkaSpec{})
	brokers, err := v1alpha1.ParseBrokers(spec.Brokers)
	if err != nil {
		r.problem(path+".brokers", ReasonInvalid, "%v", err)
	}
	k := &Kafka{
		KafkaAccess:     KafkaAccess{Brokers: brokers},
		Topic:           cmp.Or(spec.Topic, s.Event),
		ConsumerGroup:   cmp.Or(spec.ConsumerGroup, ConsumerGroup(s.Namespace, s.EventSource, s.Event)),
		FromOldest:      spec.InitialOffset == "oldest",
		MaxMessageBytes: value(spec.MaxMessageBytes, 0),
	}
	if spec.AuthRequired {
		k.SASLMechanism = cmp.Or(spec.SASLMechanism, "PLAIN")
		k.Username = r.secret(path+".saslUsernameFrom", spec.SASLUsernameFrom, spec.SASLUsername)
		k.Password = r.secret(path+".saslPasswordFrom", spec.SASLPasswordFrom, spec.SASLPassword)
	}
	return k
}
