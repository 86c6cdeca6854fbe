package jetstream

import (
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/pkg/plan"
)

// A bus that asks for more replicas of a topic than the bus that made it does not come to say for how long the topic keeps events.
func TestMoreReplicasAreNotAnotherAge(t *testing.T) {
	const week, maker, other = 7 * 24 * time.Hour, "EventBus default/a", "EventBus default/b"
	for name, made := range map[string]map[string]string{
		"a topic without an age of the bus's own": {replicasFrom: maker},
		"a topic with one":                        {replicasFrom: maker, maxAgeFrom: maker},
	} {
		t.Run(name, func(t *testing.T) {
			b := &Bus{o: Options{Name: other, Config: plan.JetStream{TopicRetention: time.Hour}}, ctx: t.Context()}
			has := jetstream.StreamConfig{Name: "openfunction-topic-logs", Replicas: 1, MaxAge: week, Metadata: made}
			for range 3 { // it is looked at again after each change
				want := has
				want.Metadata = maps.Clone(has.Metadata)
				b.settle(jetstream.StreamConfig{Name: has.Name, Replicas: 3, MaxAge: time.Hour}, has, &want)
				has = want
			}
			if has.Replicas != 3 || has.MaxAge != week {
				t.Errorf("the topic has %d replicas and keeps events for %s, want 3 and %s", has.Replicas, has.MaxAge, week)
			}
		})
	}
}
