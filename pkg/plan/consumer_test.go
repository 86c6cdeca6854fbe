package plan_test

import (
	"cmp"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// Admission judges by names that it works out itself: they must be those by which the data plane reads.
func TestConsumersAreWhoReads(t *testing.T) {
	id := "me"
	es := &v1alpha1.EventSource{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "es"},
		Spec: v1alpha1.EventSourceSpec{
			EventBus: "b",
			Kafka:    map[string]*v1alpha1.KafkaSpec{"a": {Brokers: "k:9092"}, "b": {Brokers: "k:9092", Topic: "t", ConsumerGroup: "g"}},
			Redis:    map[string]*v1alpha1.RedisSpec{"a": {RedisHost: "r:6379"}, "b": {RedisHost: "r:6379", Stream: "t", ConsumerGroup: "g"}},
			MQTT:     map[string]*v1alpha1.MQTTSpec{"a": {URL: "tcp://m", Topic: "t"}, "b": {URL: "tcp://m", Topic: "t", ConsumerID: &id}},
		},
	}
	bus := &v1alpha1.EventBus{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b"}, Spec: v1alpha1.EventBusSpec{Embedded: &v1alpha1.EmbeddedSpec{}}}
	p, problems := plan.Compile(plan.Objects{EventSources: []*v1alpha1.EventSource{es}, EventBuses: []*v1alpha1.EventBus{bus}}, plan.Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	slices.SortFunc(p.Sources, func(a, b plan.Source) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Event, b.Event)) })
	consumers := es.Consumers()
	if len(consumers) != 6 || len(p.Sources) != 6 {
		t.Fatalf("%d consumers and %d sources, want 6", len(consumers), len(p.Sources))
	}
	for i, s := range p.Sources {
		var name, origin string
		switch {
		case s.Kafka != nil:
			name, origin = s.Kafka.ConsumerGroup, "topic "+s.Kafka.Topic
		case s.Redis != nil:
			name, origin = s.Redis.ConsumerGroup, "stream "+s.Redis.Stream
		case s.MQTT != nil:
			name, origin = s.MQTT.ClientID, "topic "+s.MQTT.Topic
		}
		if c := consumers[i]; c.Kind != s.Kind || c.Event != s.Event || c.Name != name || c.Origin != origin || c.Namespace != "ns" || c.EventSource != "es" {
			t.Errorf("%s event %s is read from %s as %s, and its consumer is %+v", s.Kind, s.Event, origin, name, c)
		}
	}
}
