package v1alpha1

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// Consumer is who reads an event where it comes from: what comes there while it is away waits under its name, and for nobody else.
//
// +k8s:deepcopy-gen=false
type Consumer struct {
	Namespace   string `json:"namespace"`
	EventSource string `json:"eventSource"`
	Kind        string `json:"kind"`
	Event       string `json:"event"`
	// Servers are host:port of some of those that the event comes from, and Origin is what is read there, as in a sentence.
	Servers []string `json:"servers"`
	Origin  string   `json:"origin"`
	// Name is the consumer group, or the client id, and Group the MQTT group that it is a member of.
	Name  string `json:"name"`
	Group string `json:"group,omitempty"`
	// Keeps tells that what comes while it is away waits for it, Clean that it begins by throwing that away, and FromOldest that it begins with
	// all that there is if it is new.
	Keeps      bool `json:"keeps,omitempty"`
	Clean      bool `json:"clean,omitempty"`
	FromOldest bool `json:"fromOldest,omitempty"`
}

// DefaultConsumer names who reads an event where it comes from, if the event does not say how.
func DefaultConsumer(namespace, eventSource, kind, event string) string {
	return "openfunction." + namespace + "." + eventSource + "." + kind + "." + event
}

// Consumers are those of the events that come from brokers, by kind and name. They are the same with defaults and without.
func (es *EventSource) Consumers() []Consumer {
	all := slices.Concat(
		consumers(es, "kafka", es.Spec.Kafka, (*KafkaSpec).consumer),
		consumers(es, "mqtt", es.Spec.MQTT, (*MQTTSpec).consumer),
		consumers(es, "redis", es.Spec.Redis, (*RedisSpec).consumer),
	)
	slices.SortFunc(all, func(a, b Consumer) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Event, b.Event)) })
	return all
}

func consumers[T any](es *EventSource, kind string, events map[string]*T, fill func(*T, *Consumer)) (all []Consumer) {
	namespace := namespaceOf(es)
	for name, spec := range events {
		if spec == nil {
			continue
		}
		c := Consumer{Namespace: namespace, EventSource: es.Name, Kind: kind, Event: name, Name: DefaultConsumer(namespace, es.Name, kind, name)}
		fill(spec, &c)
		all = append(all, c)
	}
	return all
}

func (s *KafkaSpec) consumer(c *Consumer) {
	c.Servers, _ = ParseBrokers(s.Brokers, "9092") // what is no address is no place where anything waits
	c.Origin = "topic " + cmp.Or(s.Topic, c.Event)
	c.Name = cmp.Or(s.ConsumerGroup, c.Name)
	c.Keeps, c.FromOldest = true, s.InitialOffset == "oldest"
}

func (s *RedisSpec) consumer(c *Consumer) {
	c.Servers, _ = ParseBrokers(s.RedisHost, "6379")
	switch {
	case s.Channel != "":
		c.Origin = "channel " + s.Channel
	case s.Pattern != "":
		c.Origin = "pattern " + s.Pattern
	case s.List != "": // whoever reads it gets what waits
		c.Origin = "list " + s.List
	default:
		c.Origin, c.Keeps = "stream "+cmp.Or(s.Stream, c.Event), true
		c.Name = cmp.Or(s.ConsumerGroup, c.Name)
	}
	if s.RedisDB != nil && *s.RedisDB != 0 {
		c.Origin += fmt.Sprintf(" of database %d", *s.RedisDB)
	}
	if s.Failover != nil && *s.Failover && s.SentinelMasterName != nil {
		c.Origin += " of master " + *s.SentinelMasterName
	}
}

func (s *MQTTSpec) consumer(c *Consumer) {
	if u, err := url.Parse(s.URL); err == nil && u.Hostname() != "" {
		c.Servers = []string{net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), mqttPorts[u.Scheme]))}
	}
	c.Origin, c.Group = "topic "+s.Topic, s.Group
	if s.ConsumerID != nil {
		c.Name = *s.ConsumerID
	}
	c.Clean = s.CleanSession != nil && *s.CleanSession
	c.Keeps = !c.Clean && (s.QOS == nil || *s.QOS > 0)
}

// mqttPorts are the usual ones of the schemes.
var mqttPorts = map[string]string{"tcp": "1883", "mqtt": "1883", "ssl": "8883", "tls": "8883", "mqtts": "8883", "ws": "80", "wss": "443"}

// Left says what becomes of what waits for c if next read in place of it and all that read with it: problems of c's EventSource.
func (c Consumer) Left(next []Consumer) []Problem {
	r := newReport()
	c.left(r, next)
	return Flatten(r.result())
}

func (c Consumer) left(r report, next []Consumer) {
	if !c.Keeps || len(c.Servers) == 0 || slices.ContainsFunc(next, c.isReadBy) {
		return
	}
	r = r.field("spec").field(c.Kind).key(c.Event)
	_, name := c.named()
	waits := fmt.Sprintf("what still waits for the %s %q in %s at %s", name, c.Name, c.Origin, strings.Join(c.Servers, ", "))
	i := slices.IndexFunc(next, c.isEventOf)
	switch {
	case i < 0:
		r.warnf("is removed, and %s stays there unread, unless another event reads it under that name", waits)
	case !next[i].from(c):
		r.warnf("reads elsewhere now, and %s may be lost, unless that is the same under another address", waits)
	default:
		c.renamed(r, next[i])
	}
}

// renamed is left for an event that still reads what it did.
func (c Consumer) renamed(r report, now Consumer) {
	cure := func(with string) string {
		return "add another event with " + with + ", and remove this one once it has caught up, or first if what waits may be lost"
	}
	field, name := c.named()
	switch at := r.field(field); {
	case now.Name != c.Name && now.FromOldest:
		at.warnf("was %q: a group that is new begins with the oldest record, read before or not; one that exists goes on where it was", c.Name)
	case now.Name != c.Name:
		at.errorf("cannot be changed from %q: what waits under that %s would not be read; %s", c.Name, name, cure("the new value"))
	}
	if now.Group != c.Group {
		r.field("group").errorf("cannot be changed from %q: what waits in the session would not be read; %s", c.Group, cure("the new value"))
	}
	if now.Clean {
		r.field("cleanSession").errorf("cannot be changed to true: what waits in the session of the client id %q would be lost; %s", c.Name, cure("another consumerID"))
	}
}

// named returns the field that has c's name, and what such a name is.
func (c Consumer) named() (field, is string) {
	if c.Kind == "mqtt" {
		return "consumerID", "client id"
	}
	return "consumerGroup", "consumer group"
}

// isReadBy tells whether o gets what waits for c. A member of an MQTT group has the event's name in its client id.
func (c Consumer) isReadBy(o Consumer) bool {
	return c.Kind == o.Kind && o.from(c) && o.Name == c.Name && o.Group == c.Group && !o.Clean && (c.Group == "" || c.isEventOf(o))
}

func (c Consumer) isEventOf(o Consumer) bool {
	return o.Namespace == c.Namespace && o.EventSource == c.EventSource && o.Kind == c.Kind && o.Event == c.Event
}

// from tells whether both read the same from the same servers.
func (c Consumer) from(o Consumer) bool {
	return c.Origin == o.Origin && slices.ContainsFunc(c.Servers, func(s string) bool {
		return slices.ContainsFunc(o.Servers, func(t string) bool { return strings.EqualFold(s, t) })
	})
}
