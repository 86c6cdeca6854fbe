package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// SystemNamespace is where the Secrets of objects without a namespace, the ClusterEventBuses, are read.
const SystemNamespace = "openfunction"

// The kinds of event sources, as the fields of an EventSource's spec name them.
const (
	KindHTTP  = "http"
	KindKafka = "kafka"
	KindCron  = "cron"
	KindRedis = "redis"
	KindMQTT  = "mqtt"
)

// Topic is where an event of an EventSource travels on its bus. Names hold no dots, so no two events share one.
func Topic(namespace, eventSource, event string) string {
	return "openfunction." + namespace + "." + eventSource + "." + event
}

// DeadLetterTopic is where a Trigger's undeliverable events go when a subscriber names no other place.
func DeadLetterTopic(namespace, trigger string) string {
	return "openfunction." + namespace + ".trigger." + trigger + ".deadletter"
}

// EventSourceDeadLetterTopic is where the events go that the sink of an EventSource with a bus did not take, without a deadLetterSink.
func EventSourceDeadLetterTopic(namespace, eventSource string) string {
	return "openfunction." + namespace + ".eventsource." + eventSource + ".deadletter"
}

// SourceURI is the CloudEvents source of events made from what was not a CloudEvent.
func SourceURI(namespace, eventSource, event string) string {
	return "/namespaces/" + url.PathEscape(namespace) + "/eventsources/" + url.PathEscape(eventSource) + "/" + url.PathEscape(event)
}

// EventType is the CloudEvents type of events made from what was not a CloudEvent.
func EventType(kind string) string {
	return "io.openfunction.events." + kind
}

// ConsumerGroup is the Kafka consumer group of an event that names none.
func ConsumerGroup(namespace, eventSource, event string) string {
	return v1alpha1.DefaultConsumer(namespace, eventSource, KindKafka, event)
}

// maxID is how long a bus lets the name of a durable subscription be.
const maxID = 200

// subscriberID returns a readable prefix with a hash of the prefix, whole, and of identity.
func subscriberID(prefix []string, identity ...string) string {
	h := sha256.Sum256([]byte(strings.Join(append(prefix[:len(prefix):len(prefix)], identity...), "\x00")))
	hash := "_" + hex.EncodeToString(h[:4])
	name := strings.Map(idRune, strings.Join(prefix, "_"))
	return name[:min(len(name), maxID-len(hash))] + hash
}

func idRune(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
		return r
	}
	return '-'
}

// identity is what a person would call the same sink: not its API version, not the certificates it is trusted by. A URL in a Secret is the
// same while it is in the same key: a value that changes leaves the subscription, and a name made of it would tell of it.
func identity(d *v1alpha1.Sink, namespace string) string {
	if d == nil {
		return ""
	}
	if from := d.URIFrom; from != nil {
		return strings.Join([]string{"Secret", namespace, from.Name, from.Key}, "\x01")
	}
	var parts []string
	if r := d.Ref; r != nil {
		group := r.Group
		if g, _, ok := strings.Cut(r.APIVersion, "/"); ok {
			group = g
		}
		if r.Namespace != "" {
			namespace = r.Namespace
		}
		parts = append(parts, group, r.Kind, namespace, r.Name)
		if r.Address != nil {
			parts = append(parts, *r.Address)
		}
	}
	return strings.Join(append(parts, d.URI.String()), "\x01")
}
