package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// bus is a declared bus, compiled. One that is broken has its problem already.
type bus struct {
	plan   Bus
	broken string
}

func (c *compiler) addBus(o object, spec *v1alpha1.EventBusSpec) {
	r := c.reader(o)
	b := Bus{Name: o.String()}
	switch {
	case spec.NATSStreaming != nil:
		b.NATSStreaming = natsStreaming(r, spec.NATSStreaming)
	case spec.JetStream != nil:
		b.JetStream = jetStream(r, spec.JetStream)
	case spec.Embedded != nil && c.opts.Embedded != nil:
		var err error
		if b.JetStream, err = c.opts.Embedded(o.kind, o.namespace, o.name, spec.Embedded); err != nil {
			r.problem("spec.embedded", ReasonBusNotReady, "%v", err)
		}
	case spec.Embedded != nil:
		b.Embedded = embedded(r, spec.Embedded)
	case spec.Kafka != nil:
		b.Kafka = kafkaBus(r, spec.Kafka)
	default:
		r.problem("spec", ReasonInvalid, "no backend; set one of natsStreaming, jetStream, kafka and embedded")
	}
	c.buses[o] = &bus{plan: b, broken: r.failed}
}

// bus finds the bus that an object means: the one of its namespace, or else the cluster's. It is nil, with a problem, if none can be used.
func (c *compiler) bus(user object, name string) *bus {
	b := c.lookup(user.namespace, name)
	switch {
	case b == nil:
		c.problem(user, "spec.eventBus", ReasonBusNotFound, "no EventBus %q in namespace %s and no ClusterEventBus %q%s; add an EventBus named %s, for example with spec.embedded: {}",
			name, user.namespace, name, c.existing(user.namespace, name), name)
		return nil
	case b.broken != "":
		c.problem(user, "spec.eventBus", ReasonBusNotReady, "%s cannot be used: %s", b.plan.Name, b.broken)
		return nil
	}
	return b
}

// noBus says in short that user cannot use the bus.
func (c *compiler) noBus(user object, name string) string {
	if b := c.lookup(user.namespace, name); b != nil {
		return b.plan.Name + " cannot be used"
	}
	return "there is no EventBus " + name
}

func (c *compiler) lookup(namespace, name string) *bus {
	if b, ok := c.buses[object{"EventBus", namespace, name}]; ok {
		return b
	}
	return c.buses[object{"ClusterEventBus", "", name}]
}

// existing lists the buses that an object in namespace could name, and tells one reader that another namespace has one of this name.
func (c *compiler) existing(namespace, name string) string {
	var names, elsewhere []string
	for o := range c.buses {
		switch {
		case o.namespace == namespace || o.namespace == "":
			names = append(names, o.String())
		case o.name == name && c.opts.OneReader:
			elsewhere = append(elsewhere, o.String())
		}
	}
	if len(elsewhere) > 0 {
		return fmt.Sprintf(" (there is %s: an EventBus is for its own namespace, a ClusterEventBus for all)", slices.Min(elsewhere))
	}
	if len(names) == 0 {
		return " (there are no others either)"
	}
	slices.Sort(names)
	return fmt.Sprintf(" (there are: %s)", strings.Join(names, ", "))
}

func natsStreaming(r *reader, s *v1alpha1.NATSStreamingSpec) *NATSStreaming {
	const path = "spec.natsStreaming."
	n := &NATSStreaming{
		NATSAccess:  r.nats("spec.natsStreaming", &s.NATSAccessSpec),
		URL:         s.NATSURL,
		ClusterID:   s.NATSStreamingClusterID,
		Queue:       s.SubscriptionType != "topic",
		Durable:     cmp.Or(s.DurableSubscriptionName, "openfunction"),
		ClientID:    value(s.ConsumerID, ""),
		AckWait:     r.duration(path+"ackWaitTime", value(s.AckWaitTime, ""), 30*time.Second),
		MaxInFlight: int(value(s.MaxInFlight, 256)),
		StartAt:     "new",
	}
	switch {
	case s.StartAtSequence != nil:
		n.StartAt, n.StartAtSeq = "sequence", uint64(max(*s.StartAtSequence, 0))
	case value(s.StartWithLastReceived, false):
		n.StartAt = "last"
	case value(s.DeliverAll, false):
		n.StartAt = "all"
	case value(s.DeliverNew, false):
	case value(s.StartAtTimeDelta, "") != "":
		n.StartAt, n.StartAtDelta = "delta", r.duration(path+"startAtTimeDelta", *s.StartAtTimeDelta, 0)
	case value(s.StartAtTime, "") != "":
		t, err := time.Parse(cmp.Or(value(s.StartAtTimeFormat, ""), time.RFC3339), *s.StartAtTime)
		if err != nil {
			r.problem(path+"startAtTime", ReasonInvalid, "%v", err)
		}
		n.StartAt, n.StartAtTime = "time", &t
	}
	return n
}

func jetStream(r *reader, s *v1alpha1.JetStreamSpec) *JetStream {
	const path = "spec.jetStream."
	return &JetStream{
		NATSAccess:     r.nats("spec.jetStream", &s.NATSAccessSpec),
		URL:            s.URL,
		Replicas:       int(value(s.Replicas, 1)),
		MaxBytes:       value(s.MaxBytes, 0),
		TopicRetention: r.duration(path+"topicRetention", value(s.TopicRetention, ""), 0),
		AckWait:        r.duration(path+"ackWait", value(s.AckWait, ""), 10*time.Second),
		MaxInFlight:    int(value(s.MaxInFlight, 256)),
	}
}

func kafkaBus(r *reader, s *v1alpha1.KafkaBusSpec) *KafkaBus {
	return &KafkaBus{
		KafkaAccess: r.kafka("spec.kafka", kafkaAccess{
			brokers: s.Brokers, required: s.AuthRequired, mechanism: s.SASLMechanism, oauth: s.SASLOAuth, tls: s.TLS,
			username: s.SASLUsername, usernameFrom: s.SASLUsernameFrom, passwordFrom: s.SASLPasswordFrom,
		}),
		Partitions:        value(s.Partitions, 1),
		ReplicationFactor: int16(value(s.ReplicationFactor, 1)),
		Retention:         r.duration("spec.kafka.retention", value(s.Retention, ""), 7*24*time.Hour),
		MaxInFlight:       int(value(s.MaxInFlight, 256)),
	}
}

func embedded(r *reader, s *v1alpha1.EmbeddedSpec) *Embedded {
	e := &Embedded{
		MaxBytes:       value(s.MaxBytes, 0),
		TopicRetention: r.duration("spec.embedded.topicRetention", value(s.TopicRetention, ""), 0),
	}
	if s.SyncInterval != "always" {
		e.SyncInterval = r.duration("spec.embedded.syncInterval", s.SyncInterval, time.Second)
	}
	return e
}
