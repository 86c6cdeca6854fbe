package plan_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/plan"
)

const planted = "hunter2"

func withSecrets() plan.Plan {
	access := plan.NATSAccess{Username: "u", Password: planted, Token: planted, Credentials: planted, NKeySeed: planted, TLS: &plan.TLS{Key: planted}}
	kafka := plan.KafkaAccess{Username: "u", Password: planted, OAuth: &plan.OAuth{ClientSecret: planted, TokenURL: "https://u:" + planted + "@t"}}
	sink := &plan.Target{Name: "http://me:" + planted + "@sink", URL: "http://me:" + planted + "@sink/in?q=1"}
	return plan.Plan{
		Buses: []plan.Bus{
			{Name: "a", NATSStreaming: &plan.NATSStreaming{URL: "nats://" + planted + "@a:4222,nats://u:" + planted + "@b:4222"}},
			{Name: "b", JetStream: &plan.JetStream{URL: "nats://u:" + planted + "%zz@c:4222", NATSAccess: access}},
			{Name: "c", Embedded: &plan.Embedded{}},
			{Name: "d", Kafka: &plan.KafkaBus{KafkaAccess: kafka}},
		},
		Sources: []plan.Source{
			{EventSource: "es", Event: "e", Kafka: &plan.Kafka{KafkaAccess: kafka}, Sink: sink, DeadLetter: sink},
			{EventSource: "es", Event: "f", HTTP: &plan.HTTP{}},
			{EventSource: "es", Event: "g", HTTP: &plan.HTTP{Auth: &plan.HTTPAuth{
				Bearer: &plan.Bearer{Tokens: []string{planted}}, Basic: &plan.Basic{Passwords: []string{planted}}, HMAC: &plan.HMAC{Secrets: []string{planted}},
			}}},
			{EventSource: "es", Event: "h", Redis: &plan.Redis{Password: planted, SentinelPassword: planted, TLS: &plan.TLS{Key: planted}}},
			{EventSource: "es", Event: "i", MQTT: &plan.MQTT{URL: "tcp://u:" + planted + "@m:1883", Password: planted, TLS: &plan.TLS{Key: planted}}},
		},
		Subscribers: []plan.Subscriber{
			{ID: "s", Condition: "a && b", Sink: sink, DeadLetter: sink},
			{ID: "t", Sink: &plan.Target{Name: "sink of Secret default/s, key url", URL: "https://" + planted + ".example.com/in/" + planted, Secret: true}},
		},
	}
}

func TestPrintingShowsNoSecret(t *testing.T) {
	p := withSecrets()
	if n := strings.Count(marshal(t, p), planted); n != 33 {
		t.Fatalf("the test plants %d secrets, want 33", n)
	}
	values := map[string]any{
		"plan":          p,
		"*plan":         &p,
		"buses":         p.Buses,
		"bus":           p.Buses[0],
		"natsStreaming": p.Buses[0].NATSStreaming,
		"jetStream":     *p.Buses[1].JetStream,
		"sources":       p.Sources,
		"source":        &p.Sources[0],
		"kafka":         p.Sources[0].Kafka,
		"kafkaBus":      p.Buses[3].Kafka,
		"access":        p.Buses[1].JetStream.NATSAccess,
		"http":          p.Sources[2].HTTP,
		"auth":          *p.Sources[2].HTTP.Auth,
		"redis":         p.Sources[3].Redis,
		"mqtt":          p.Sources[4].MQTT,
		"subscribers":   p.Subscribers,
		"subscriber":    p.Subscribers[0],
		"target":        *p.Subscribers[0].Sink,
		"in a struct":   struct{ P plan.Plan }{p},
		"in a map":      map[string]plan.Target{"sink": *p.Subscribers[0].Sink},
	}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			got := fmt.Sprintf(verb, v)
			if strings.Contains(got, planted) || strings.Contains(got, fmt.Sprintf("%x", planted)) {
				t.Errorf("Sprintf(%q, %s) shows the secret: %s", verb, name, got)
			}
		}
	}
	if got := p.String(); !strings.Contains(got, `"password":"***"`) || !strings.Contains(got, `"username":"u"`) || !strings.Contains(got, `a && b`) {
		t.Errorf("String() = %s, want all but the secrets", got)
	}
}

func TestLoggingShowsNoSecret(t *testing.T) {
	p := withSecrets()
	core, logs := observer.New(zapcore.InfoLevel)
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{})
	log := zap.New(core).Sugar()
	log.Infow("applied", "plan", &p, "bus", p.Buses[1], "source", p.Sources[0], "kafka", p.Sources[0].Kafka, "subscriber", p.Subscribers[0], "sink", p.Subscribers[0].Sink)
	for _, entry := range logs.All() {
		line, err := encoder.EncodeEntry(entry.Entry, entry.Context)
		if err != nil {
			t.Fatal(err)
		}
		if got := line.String(); strings.Contains(got, planted) || !strings.Contains(got, "***") {
			t.Errorf("the log shows the secret, or nothing: %s", got)
		}
	}
}

func TestRedacted(t *testing.T) {
	p := withSecrets()
	before := marshal(t, p)
	got := p.Redacted()
	if text := marshal(t, got); strings.Contains(text, planted) {
		t.Errorf("Redacted() holds the secret: %s", text)
	}
	if marshal(t, p) != before {
		t.Error("Redacted() changed the plan itself")
	}
	if got, want := got.Buses[0].NATSStreaming.URL, "nats://***@a:4222,nats://***@b:4222"; got != want {
		t.Errorf("URL = %s, want %s", got, want)
	}
	if got, want := got.Subscribers[0].Sink.URL, "http://***@sink/in?***"; got != want {
		t.Errorf("URL = %s, want %s", got, want)
	}
	if n := len(got.Sources); n != 5 || got.Sources[1].HTTP == nil || got.Sources[1].Kafka != nil {
		t.Errorf("Redacted() has other sources: %v", got.Sources)
	}
}

// A problem is shown to people and written into statuses.
func TestProblemsShowNoSecret(t *testing.T) {
	o, opts := load(t, `
{kind: EventBus, metadata: {name: default}, spec: {jetStream: {url: "nats://n:1", passwordFrom: {name: s, key: good}, tokenFrom: {name: s, key: bad}}}}
---
{kind: Secret, metadata: {name: s, namespace: default}, stringData: {good: `+planted+`}}
---
{kind: EventSource, metadata: {name: es}, spec: {eventBus: default, http: {e: {}}, kafka: {k: {brokers: "k:1", authRequired: true, saslUsername: u, saslPassword: `+planted+`}}}}`)
	_, problems := plan.Compile(o, opts)
	if len(problems) != 2 {
		t.Fatalf("problems = %v, want that of the bus and that of its user", problems)
	}
	if got := fmt.Sprintf("%+v", problems) + marshal(t, problems); strings.Contains(got, planted) {
		t.Errorf("problems show the secret: %s", got)
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestHideURL(t *testing.T) {
	for in, want := range map[string]string{
		"nats://a:4222":                              "nats://a:4222",
		"nats://user:secret@a:4222, nats://b":        "nats://***@a:4222, nats://b",
		"nats://token@a:4222,nats://t@b":             "nats://***@a:4222,nats://***@b",
		"wss://u:secret@a/mqtt?token=secret":         "wss://***@a/mqtt?***",
		"http://a?token=a,secret&x=secret@y, ws://b": "http://a?***, ws://b",
		"http://a/?":       "http://a/?***",
		"://u:secret@\x7f": "://***@\x7f",
		"":                 "",
	} {
		if got := plan.HideURL(in); got != want {
			t.Errorf("HideURL(%q) = %q, want %q", in, got, want)
		}
	}
}
