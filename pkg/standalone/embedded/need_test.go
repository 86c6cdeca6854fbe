package embedded

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/plan"
)

func TestNeeds(t *testing.T) {
	got, err := Needs(&plan.Plan{
		Buses: []plan.Bus{
			{Name: "EventBus default/a", NATSStreaming: &plan.NATSStreaming{URL: "nats://nats.default:4222, nats://Other", ClusterID: "stan"}},
			{Name: "EventBus default/b", JetStream: &plan.JetStream{URL: "js:4333", NATSAccess: plan.NATSAccess{Username: "u", Password: "p"}}},
			{Name: "EventBus default/c", Embedded: &plan.Embedded{}},
		},
		Sources: []plan.Source{
			{Kafka: &plan.Kafka{KafkaAccess: plan.KafkaAccess{Brokers: []string{"k1:9092", "k2:9092"}}, Topic: "sample"}},
			{Cron: &plan.Cron{Schedule: "@hourly"}},
			{Redis: &plan.Redis{Addresses: []string{"redis:6379"}, Username: "u", Password: "p", Stream: "orders"}},
			{Redis: &plan.Redis{Addresses: []string{"sentinel:26379"}, MasterName: "main", SentinelUsername: "su", SentinelPassword: "sp", List: "jobs"}},
			{MQTT: &plan.MQTT{URL: "tcp://u:p@Mosquitto.mqtt", Topic: "a/#"}},
			{MQTT: &plan.MQTT{URL: "mqtt://other:1884", Topic: "a/#", Username: "u", Password: "p"}},
			{MQTT: &plan.MQTT{URL: "ssl://secure", Topic: "a/#"}},
			{MQTT: &plan.MQTT{URL: "tcp://secure", Topic: "a/#", TLS: &plan.TLS{}}},
			{MQTT: &plan.MQTT{URL: "ws://web/mqtt", Topic: "a/#"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []Need{
		{Kind: NATSStreaming, Addresses: []string{"nats.default:4222", "other:4222"}, ClusterID: "stan"},
		{Kind: JetStream, Addresses: []string{"js:4333"}, Username: "u", Password: "p"},
		{Kind: Kafka, Addresses: []string{"k1:9092", "k2:9092"}, Topics: []string{"sample"}},
		{Kind: Redis, Addresses: []string{"redis:6379"}, Username: "u", Password: "p"},
		{Kind: Redis, Addresses: []string{"sentinel:26379"}, Sentinel: &Sentinel{Master: "main", Username: "su", Password: "sp"}},
		{Kind: MQTT, Addresses: []string{"mosquitto.mqtt:1883"}, Username: "u", Password: "p"},
		{Kind: MQTT, Addresses: []string{"other:1884"}, Username: "u", Password: "p"},
		{Kind: MQTT, Addresses: []string{"secure:8883"}, Elsewhere: true},
		{Kind: MQTT, Addresses: []string{"secure:1883"}, Elsewhere: true},
		{Kind: MQTT, Addresses: []string{"web:80"}, Elsewhere: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Needs() (-want +got):\n%s", diff)
	}
}

func TestNeedsSaysWhichBusHasNoAddress(t *testing.T) {
	_, err := Needs(&plan.Plan{Buses: []plan.Bus{{Name: "EventBus default/a", JetStream: &plan.JetStream{URL: " , "}}}})
	if want := `EventBus default/a: server address " , ": want nats://host:port`; err == nil || err.Error() != want {
		t.Errorf("Needs() = %v, want %s", err, want)
	}
}
