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
	if es.Spec.Sink != nil {
		sink.Sink = r.target("spec.sink", es.Spec.Sink)
		sink.DeadLetter = r.target("spec.deadLetterSink", es.Spec.DeadLetterSink)
		sink.Delivery = r.delivery("spec.delivery", es.Spec.Delivery)
	}
	switch {
	case es.Spec.EventBus != "":
		b := c.bus(o, es.Spec.EventBus)
		if b == nil {
			c.wait(es, c.noBus(o, es.Spec.EventBus))
			return
		}
		base.Bus = b.plan.Name
		sink.Bus = b.plan.Name
	case es.Spec.Sink == nil:
		r.problem("spec", ReasonInvalid, "neither eventBus nor sink is set, so events would go nowhere")
		return
	}
	if base.Bus == "" {
		base.Sink, base.DeadLetter, base.Delivery = sink.Sink, sink.DeadLetter, sink.Delivery
	}
	reachable := r.failed == ""
	secret := func(d *v1alpha1.Sink) bool { return d != nil && d.URIFrom != nil }
	waitsForSecret := !reachable && (secret(es.Spec.Sink) || secret(es.Spec.DeadLetterSink))

	all := events(es)
	for _, event := range slices.Sorted(maps.Keys(all)) {
		kinds := all[event]
		s := base
		s.Event = event
		s.MarkKind = len(kinds) > 1
		if s.Bus != "" {
			s.Topic = Topic(es.Namespace, es.Name, event)
		}
		if waitsForSecret {
			s.Needs, s.Why = sinkSubscriber(sink, es, event).ID, r.why()
		}
		for _, kind := range kinds {
			s.Kind = kind
			// What is wrong with every event is told once, above; what is wrong with this one is told even if it could not run anyway.
			its := c.source(&s, es)
			switch {
			case its.failed == "" && (s.Bus != "" || reachable):
				c.plan.Sources = append(c.plan.Sources, s)
			case !its.final:
				w := s.waiting()
				w.Why = cmp.Or(its.why(), r.why())
				c.plan.WaitingSources = append(c.plan.WaitingSources, w)
			}
		}
		switch {
		case es.Spec.Sink == nil:
		case !reachable: // also without a bus: what goes on may still publish on one
			c.plan.Waiting = append(c.plan.Waiting, sinkSubscriber(sink, es, event).waiting())
		case s.Bus != "":
			c.plan.Subscribers = append(c.plan.Subscribers, *sinkSubscriber(sink, es, event))
		}
	}
}

// sinkSubscriber makes the sink of an EventSource a subscriber of one event's topic. It does not depend on whether the event's
// sources can run: a subscription that comes and goes with them would lose what it holds.
func sinkSubscriber(s Subscriber, es *v1alpha1.EventSource, event string) *Subscriber {
	s.ID = subscriberID([]string{es.Namespace, es.Name, "sink"}, event, identity(es.Spec.Sink, es.Namespace))
	s.EventSource = es.Namespace + "/" + es.Name
	s.Inputs = []Input{{Name: "event", Topic: Topic(es.Namespace, es.Name, event)}}
	s.Condition = "event"
	s.Window = sinkWindow
	s.Match = v1alpha1.MatchOnce
	s.DeadLetterTopic = EventSourceDeadLetterTopic(es.Namespace, es.Name)
	return &s
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

// source fills in what is particular to the kind of s, and returns who has read it.
func (c *compiler) source(s *Source, es *v1alpha1.EventSource) *reader {
	r := c.reader(object{"EventSource", es.Namespace, es.Name})
	path := fmt.Sprintf("spec.%s[%s]", s.Kind, s.Event)
	s.HTTP, s.Cron, s.Kafka, s.Redis, s.MQTT = nil, nil, nil, nil, nil
	switch s.Kind {
	case KindHTTP:
		s.HTTP = httpSource(r, path, es.Spec.HTTP[s.Event])
	case KindCron:
		s.Cron = cronSource(es.Spec.Cron[s.Event])
	case KindKafka:
		s.Kafka = kafkaSource(r, path, s, es.Spec.Kafka[s.Event])
	case KindRedis:
		s.Redis = redisSource(r, path, s, es.Spec.Redis[s.Event])
	case KindMQTT:
		s.MQTT = mqttSource(r, path, s, es.Spec.MQTT[s.Event])
	}
	return r
}

func httpSource(r *reader, path string, s *v1alpha1.HTTPSpec) *HTTP {
	s = cmp.Or(s, &v1alpha1.HTTPSpec{})
	h := &HTTP{
		Raw:          s.Raw,
		ID:           s.ID,
		Type:         cmp.Or(s.Type, v1alpha1.DefaultHTTPType),
		Source:       s.Source,
		Subject:      s.Subject,
		MaxBodyBytes: value(s.MaxBodyBytes, v1alpha1.DefaultMaxBodyBytes),
		Auth:         httpAuth(r, path+".auth", s.Auth),
	}
	if l := s.RateLimit; l != nil {
		h.RateLimit = &RateLimit{PerSecond: float64(l.EventsPerSecond), Burst: int(value(l.Burst, l.EventsPerSecond))}
	}
	return h
}

func httpAuth(r *reader, path string, s *v1alpha1.HTTPAuthSpec) *HTTPAuth {
	switch {
	case s == nil:
		return nil
	case s.Bearer != nil:
		return &HTTPAuth{Bearer: &Bearer{Tokens: r.secrets(path+".bearer.tokenFrom", s.Bearer.TokenFrom)}}
	case s.Basic != nil:
		return &HTTPAuth{Basic: &Basic{
			Username:  r.userName(path+".basic.usernameFrom", s.Basic.UsernameFrom, s.Basic.Username),
			Passwords: r.secrets(path+".basic.passwordFrom", s.Basic.PasswordFrom),
		}}
	case s.HMAC != nil:
		return &HTTPAuth{HMAC: &HMAC{
			Scheme:    s.HMAC.Scheme,
			Secrets:   r.secrets(path+".hmac.secretFrom", s.HMAC.SecretFrom),
			Tolerance: r.duration(path+".hmac.tolerance", value(s.HMAC.Tolerance, ""), 5*time.Minute),
		}}
	case s.OIDC != nil:
		ca := TLS{CACerts: r.secret(path+".oidc.caCertFrom", s.OIDC.CACertFrom, s.OIDC.CACert)}
		return &HTTPAuth{OIDC: &OIDC{
			Issuer: s.OIDC.Issuer, Audience: s.OIDC.Audience, Subjects: s.OIDC.Subjects,
			CACerts: r.checked(path+".oidc", &ca, s.OIDC.CACertFrom).CACerts,
		}}
	}
	// It must not be open because nobody knows how to close it.
	r.problem(path, ReasonInvalid, "says nothing: set one of bearer, basic, hmac or oidc")
	return nil
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
	return &Kafka{
		KafkaAccess: r.kafka(path, kafkaAccess{
			brokers: spec.Brokers, required: spec.AuthRequired, mechanism: spec.SASLMechanism, oauth: spec.SASLOAuth, tls: spec.TLS,
			username: spec.SASLUsername, usernameFrom: spec.SASLUsernameFrom, password: spec.SASLPassword, passwordFrom: spec.SASLPasswordFrom,
		}),
		Topic:           cmp.Or(spec.Topic, s.Event),
		ConsumerGroup:   cmp.Or(spec.ConsumerGroup, ConsumerGroup(s.Namespace, s.EventSource, s.Event)),
		FromOldest:      spec.InitialOffset == "oldest",
		MaxMessageBytes: value(spec.MaxMessageBytes, 0),
	}
}
