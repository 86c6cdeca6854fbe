package embedded

import (
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/plan"
)

func TestNeeds(t *testing.T) {
	p := &plan.Plan{
		Buses: []plan.Bus{
			{Name: "EventBus default/a", NATSStreaming: &plan.NATSStreaming{URL: "nats://nats.default:4222, nats://Other", ClusterID: "stan"}},
			{Name: "EventBus default/b", JetStream: &plan.JetStream{URL: "js:4333", NATSAccess: plan.NATSAccess{Username: "u", Password: "p"}}},
			{Name: "EventBus default/c", Embedded: &plan.Embedded{}},
			{Name: "EventBus default/d", Kafka: &plan.KafkaBus{KafkaAccess: plan.KafkaAccess{Brokers: []string{"bus:9092"}}, ReplicationFactor: 3}},
			{Name: "EventBus default/e", Kafka: &plan.KafkaBus{KafkaAccess: plan.KafkaAccess{Brokers: []string{"bus:9093"}, TLS: &plan.TLS{}}}},
			{Name: "EventBus default/f", JetStream: &plan.JetStream{URL: "tls://js"}},
			{Name: "EventBus default/g", NATSStreaming: &plan.NATSStreaming{URL: "stan", NATSAccess: plan.NATSAccess{TLS: &plan.TLS{}}}},
		},
		Sources: []plan.Source{
			{Kafka: &plan.Kafka{KafkaAccess: plan.KafkaAccess{Brokers: []string{"k1:9092", "k2:9092"}}, Topic: "sample"}},
			{Kafka: &plan.Kafka{KafkaAccess: plan.KafkaAccess{Brokers: []string{"k3:9092"}, OAuth: &plan.OAuth{}}, Topic: "sample"}},
			{Redis: &plan.Redis{Addresses: []string{"redis:6380"}, TLS: &plan.TLS{}}},
			{Cron: &plan.Cron{Schedule: "@hourly"}},
			{Redis: &plan.Redis{Addresses: []string{"redis:6379"}, Username: "u", Password: "p", Stream: "orders"}},
			{Redis: &plan.Redis{Addresses: []string{"sentinel:26379"}, MasterName: "main", SentinelUsername: "su", SentinelPassword: "sp", List: "jobs"}},
			{MQTT: &plan.MQTT{URL: "tcp://u:p@Mosquitto.mqtt", Topic: "a/#"}},
			{MQTT: &plan.MQTT{URL: "mqtt://other:1884", Topic: "a/#", Username: "u", Password: "p"}},
			{MQTT: &plan.MQTT{URL: "ssl://secure", Topic: "a/#"}},
			{MQTT: &plan.MQTT{URL: "tcp://secure", Topic: "a/#", TLS: &plan.TLS{}}},
			{MQTT: &plan.MQTT{URL: "ws://web/mqtt", Topic: "a/#"}},
		},
	}
	for i := range p.Sources {
		p.Sources[i].Namespace, p.Sources[i].EventSource, p.Sources[i].Event = "ns", "es", "e"
	}
	wantsAllKinds(t, p.Buses)
	wantsAllKinds(t, p.Sources, "HTTP", "Sink", "DeadLetter")
	got, err := Needs(p)
	if err != nil {
		t.Fatal(err)
	}
	want := []Need{
		{Kind: NATSStreaming, Owner: "EventBus default/a", Addresses: []string{"nats.default:4222", "other:4222"}, ClusterID: "stan"},
		{Kind: JetStream, Owner: "EventBus default/b", Addresses: []string{"js:4333"}, Username: "u", Password: "p"},
		{Kind: Kafka, Owner: "EventBus default/d", Addresses: []string{"bus:9092"}, Brokers: 3},
		{Kind: Kafka, Owner: "EventBus default/e", Addresses: []string{"bus:9093"}, Elsewhere: true},
		{Kind: JetStream, Owner: "EventBus default/f", Addresses: []string{"js:4222"}, Elsewhere: true},
		{Kind: NATSStreaming, Owner: "EventBus default/g", Addresses: []string{"stan:4222"}, Elsewhere: true},
		{Kind: Kafka, Owner: "EventSource ns/es event e", Addresses: []string{"k1:9092", "k2:9092"}, Topics: []string{"sample"}},
		{Kind: Kafka, Owner: "EventSource ns/es event e", Addresses: []string{"k3:9092"}, Topics: []string{"sample"}, Elsewhere: true},
		{Kind: Redis, Owner: "EventSource ns/es event e", Addresses: []string{"redis:6380"}, Elsewhere: true},
		{Kind: Redis, Owner: "EventSource ns/es event e", Addresses: []string{"redis:6379"}, Username: "u", Password: "p"},
		{Kind: Redis, Owner: "EventSource ns/es event e", Addresses: []string{"sentinel:26379"}, Sentinel: &Sentinel{Master: "main", Username: "su", Password: "sp"}},
		{Kind: MQTT, Owner: "EventSource ns/es event e", Addresses: []string{"mosquitto.mqtt:1883"}, Username: "u", Password: "p"},
		{Kind: MQTT, Owner: "EventSource ns/es event e", Addresses: []string{"other:1884"}, Username: "u", Password: "p"},
		{Kind: MQTT, Owner: "EventSource ns/es event e", Addresses: []string{"secure:8883"}, Elsewhere: true},
		{Kind: MQTT, Owner: "EventSource ns/es event e", Addresses: []string{"secure:1883"}, Elsewhere: true},
		{Kind: MQTT, Owner: "EventSource ns/es event e", Addresses: []string{"web:80"}, Elsewhere: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Needs() (-want +got):\n%s", diff)
	}
}

// wantsAllKinds wants each field that is a pointer, but for these, to be set in one of all: a new kind is not to be forgotten here.
func wantsAllKinds[T any](t *testing.T, all []T, but ...string) {
	t.Helper()
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		if f.Type.Kind() != reflect.Pointer || slices.Contains(but, f.Name) {
			continue
		}
		if !slices.ContainsFunc(all, func(one T) bool { return !reflect.ValueOf(one).FieldByIndex(f.Index).IsNil() }) {
			t.Errorf("no %s has %s", f.Type, f.Name)
		}
	}
}

func TestNeedsSaysWhichBusHasNoAddress(t *testing.T) {
	_, err := Needs(&plan.Plan{Buses: []plan.Bus{{Name: "EventBus default/a", JetStream: &plan.JetStream{URL: " , "}}}})
	if want := `EventBus default/a: server address " , ": want nats://host:port`; err == nil || err.Error() != want {
		t.Errorf("Needs() = %v, want %s", err, want)
	}
}
