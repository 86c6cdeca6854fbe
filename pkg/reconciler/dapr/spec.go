package dapr

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// spec is what a Component says.
type spec struct {
	kind     string
	metadata metadata
}

// metadata are the settings of a Component: each is a string, or the Secret's name and key that hold one.
type metadata map[string]any

// component is the object. Every Dapr application of the namespace reads it, since who uses it is not known; so its errors are ignored,
// or a broker that is away, or a type that this version of Dapr has no more, would keep all of them from starting.
func (s *spec) component(namespace, name string) *unstructured.Unstructured {
	var items []any
	secret := false
	for _, key := range slices.Sorted(maps.Keys(s.metadata)) {
		item := map[string]any{"name": key}
		switch value := s.metadata[key].(type) {
		case string:
			item["value"] = value
		default:
			item["secretKeyRef"] = value
			secret = true
		}
		items = append(items, item)
	}
	o := &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{"type": s.kind, "version": "v1", "ignoreErrors": true, "metadata": items},
	}}
	if secret {
		o.Object["auth"] = map[string]any{"secretStore": "kubernetes"}
	}
	o.SetGroupVersionKind(Resource.GroupVersion().WithKind("Component"))
	o.SetNamespace(namespace)
	o.SetName(name)
	return o
}

// discreet returns s, or nil if a URL in it has what plan.HideURL hides: more people may read a Component than the object that it is made from, in other
// namespaces too when that is a ClusterEventBus.
func (s *spec) discreet() *spec {
	if s == nil {
		return nil
	}
	for _, value := range s.metadata {
		if text, ok := value.(string); ok && plan.HideURL(text) != text {
			return nil
		}
	}
	return s
}

// settings returns the fields of a spec, whose names in JSON are those that Dapr has. A field of the name xFrom becomes the setting x;
// other objects are left out, and so are empty values.
func settings(of any) metadata {
	data, err := json.Marshal(of)
	if err != nil {
		return nil // It came from JSON.
	}
	fields := map[string]any{}
	if err := utiljson.Unmarshal(data, &fields); err != nil {
		return nil
	}
	m := metadata{}
	for name, value := range fields {
		if _, object := value.(map[string]any); !object && value != "" {
			m[name] = fmt.Sprint(value)
		}
	}
	for name, value := range fields {
		if ref, object := value.(map[string]any); object && strings.HasSuffix(name, "From") {
			m[strings.TrimSuffix(name, "From")] = ref // as the gateway does, which prefers it to an inline value
		}
	}
	return m
}

func (m metadata) drop(names ...string) {
	for _, name := range names {
		delete(m, name)
	}
}

func (m metadata) text(name string) string {
	s, _ := m[name].(string)
	return s
}

func sinkSpec(s *v1alpha1.Sink, url string) *spec {
	switch {
	case s.URIFrom != nil:
		return &spec{"bindings.http", metadata{"url": map[string]any{"name": s.URIFrom.Name, "key": s.URIFrom.Key}}}
	case url == "":
		return nil
	}
	return &spec{"bindings.http", metadata{"url": url}}
}

// eventSpec describes the source of an event. Its consumer group or id is not the gateway's: an application that reads it too takes
// nothing away.
func eventSpec(es *v1alpha1.EventSourceSpec, kind, event, group string) *spec {
	switch kind {
	case plan.KindCron:
		return cronSpec(es.Cron[event])
	case plan.KindKafka:
		return kafkaSpec(es.Kafka[event], event, group)
	case plan.KindMQTT:
		return mqttSpec(es.MQTT[event], group)
	case plan.KindRedis:
		return redisSpec(es.Redis[event])
	}
	return nil
}

func cronSpec(c *v1alpha1.CronSpec) *spec {
	if c == nil {
		return nil
	}
	schedule := strings.TrimSpace(c.Schedule)
	if c.TimeZone != "" && c.TimeZone != "UTC" {
		schedule = "CRON_TZ=" + c.TimeZone + " " + schedule
	}
	return &spec{"bindings.cron", metadata{"schedule": schedule}}
}

func kafkaSpec(k *v1alpha1.KafkaSpec, event, group string) *spec {
	if k == nil {
		return nil
	}
	m := settings(k)
	m["topics"] = cmp.Or(k.Topic, event)
	m["publishTopic"] = m["topics"] // so that a producer reaches the event by the Component's name
	m.drop("topic")
	if !m.kafka(kafkaAccess{k.AuthRequired, k.SASLOAuth, k.TLS}, group) {
		return nil
	}
	return &spec{"bindings.kafka", m}
}

// kafkaAccess is how brokers let a client in.
type kafkaAccess struct {
	authRequired bool
	oauth        *v1alpha1.OAuthSpec
	tls          *v1alpha1.TLSSpec
}

// kafka sets what the source and the bus have in common. It reports whether Dapr has a way to connect like that.
func (m metadata) kafka(a kafkaAccess, group string) bool {
	if brokers, err := v1alpha1.ParseBrokers(m.text("brokers"), "9092"); err == nil {
		m["brokers"] = strings.Join(brokers, ",") // Dapr allows no spaces.
	}
	m["consumerGroup"] = group
	m["authRequired"] = strconv.FormatBool(a.authRequired)
	if a.tls != nil {
		maps.Copy(m, settings(a.tls)) // whose names are Dapr's, too
		if a.tls.ServerName != "" {
			return false
		}
	} else if a.authRequired {
		m["disableTls"] = "true" // Dapr's default is TLS with authentication; the gateway, and so the listener that brokers names, has none.
	}
	if a.authRequired {
		return m.sasl(a)
	}
	m.drop("saslMechanism", "saslUsername", "saslPassword")
	switch {
	case m["clientCert"] != nil && m["caCert"] == nil:
		return false // Dapr's sidecar panics: that of every application in the namespace, whatever ignoreErrors says.
	case m["clientCert"] != nil:
		m.authType("mtls")
	case m["caCert"] != nil:
		m.authType("certificate")
	case a.tls != nil:
		return false // With neither, Dapr does not secure the connection.
	}
	return true
}

// sasl sets how Dapr names itself; with a client certificate it can be only one of the two.
func (m metadata) sasl(a kafkaAccess) bool {
	if m["clientCert"] != nil {
		return false
	}
	switch mechanism := m.text("saslMechanism"); mechanism {
	case "", "PLAIN":
		m["saslMechanism"] = "PLAINTEXT"
	case "OAUTHBEARER":
		return m.oauth(a.oauth)
	default:
		m["saslMechanism"] = strings.TrimPrefix(mechanism, "SCRAM-")
	}
	return true
}

// oauth sets where tokens come from. An authority would be that of the brokers and of who gives tokens alike.
func (m metadata) oauth(o *v1alpha1.OAuthSpec) bool {
	if o == nil || o.CACert != nil || o.CACertFrom != nil || m["caCert"] != nil {
		return false
	}
	m.authType("oidc")
	m.drop("saslMechanism", "saslUsername", "saslPassword")
	m["oidcTokenEndpoint"], m["oidcClientID"] = o.TokenURL, o.ClientID
	m["oidcClientSecret"] = settings(o)["clientSecret"]
	if len(o.Scopes) > 0 {
		m["oidcScopes"] = strings.Join(o.Scopes, ",")
	}
	return true
}

// authType is what Dapr has in place of authRequired, which it still knows, for what that cannot say.
func (m metadata) authType(name string) {
	m.drop("authRequired")
	m["authType"] = name
}

func mqttSpec(q *v1alpha1.MQTTSpec, group string) *spec {
	if q == nil || q.Username != nil || q.UsernameFrom != nil || q.PasswordFrom != nil {
		return nil // Dapr takes them in the URL only, where a Secret cannot be named.
	}
	m := settings(q)
	m.drop("version", "group")
	m["consumerID"] = group
	return &spec{"bindings.mqtt", m}
}

// redisSpec describes the server: Dapr's binding writes keys there, but reads no streams, channels or lists.
func redisSpec(r *v1alpha1.RedisSpec) *spec {
	if r == nil || r.TLS != nil {
		return nil
	}
	m := settings(r)
	m.drop("stream", "consumerGroup", "channel", "pattern", "list")
	return &spec{"bindings.redis", m}
}

// busSpec describes a bus, with a consumer group of its own.
func busSpec(b *v1alpha1.EventBusSpec, group string) *spec {
	switch {
	case b == nil:
		return nil
	case b.NATSStreaming != nil && b.NATSStreaming.NATSAccessSpec == (v1alpha1.NATSAccessSpec{}): // Dapr takes none
		m := settings(b.NATSStreaming)
		m["subscriptionType"] = cmp.Or(m.text("subscriptionType"), "queue")
		m["consumerID"] = group
		m.start()
		return &spec{"pubsub.natsstreaming", m}
	case b.JetStream != nil:
		return jetStreamSpec(b.JetStream, group)
	case b.Kafka != nil:
		m := settings(b.Kafka)
		m.drop("partitions", "replicationFactor", "retention", "maxInFlight")
		if m.kafka(kafkaAccess{b.Kafka.AuthRequired, b.Kafka.SASLOAuth, b.Kafka.TLS}, group) {
			return &spec{"pubsub.kafka", m}
		}
	}
	return nil
}

// jetStreamSpec describes a server that wants a token or nothing, without or with TLS by the system's authorities: Dapr takes a user and
// password in the URL only, where a Secret cannot be named, no authority at all, and certificates as files.
func jetStreamSpec(j *v1alpha1.JetStreamSpec, group string) *spec {
	url := j.URL
	if j.TLS != nil {
		if *j.TLS != (v1alpha1.TLSSpec{}) {
			return nil
		}
		url = strings.ReplaceAll(url, "nats://", "tls://") // where TLS cannot be left out
	}
	if j.NATSAccessSpec != (v1alpha1.NATSAccessSpec{TokenFrom: j.TokenFrom, TLS: j.TLS}) {
		return nil
	}
	// Without the durable each process of the group gets every event, and all of them again whenever it starts.
	m := metadata{"natsURL": url, "queueGroupName": group, "durableName": group}
	if token, ok := settings(j)["token"]; ok {
		m["token"] = token
	}
	return &spec{"pubsub.jetstream", m}
}

// start leaves of the options that say where a subscription begins the one that the gateway takes. Dapr has the same order, but refuses
// one that is false.
func (m metadata) start() {
	found := false
	for _, name := range []string{"startAtSequence", "startWithLastReceived", "deliverAll", "deliverNew", "startAtTimeDelta", "startAtTime"} {
		value, set := m[name]
		if found || !set || value == "false" {
			m.drop(name)
			continue
		}
		found = true
	}
	if m["startAtTime"] == nil {
		m.drop("startAtTimeFormat")
	} else if m["startAtTimeFormat"] == nil {
		m["startAtTimeFormat"] = time.RFC3339
	}
}
