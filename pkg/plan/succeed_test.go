package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSucceed(t *testing.T) {
	busA, moved := Bus{Name: "EventBus d/a", JetStream: &JetStream{URL: "nats://a"}}, Bus{Name: "EventBus d/a", JetStream: &JetStream{URL: "nats://b"}}
	cluster := Bus{Name: "ClusterEventBus a", JetStream: &JetStream{URL: "nats://a"}}
	other := Bus{Name: "ClusterEventBus a", JetStream: &JetStream{URL: "nats://b"}}
	sub := func(id, bus string) Subscriber {
		return Subscriber{ID: id, Trigger: "d/t", Bus: bus, Inputs: []Input{{Topic: "y"}, {Topic: "x"}, {Topic: "y"}}}
	}
	heir := func(id, key string) Subscriber {
		s := sub(id, busA.Name)
		s.Key = key
		return s
	}
	retired := func(id string) Retired { return Retired{Bus: busA.Name, ID: id, Topics: []string{"x", "y"}} }
	cron := func(event string) Source {
		return Source{Namespace: "d", EventSource: "es", Event: event, Kind: "cron", Bus: busA.Name}
	}
	all := func(string) bool { return true }

	for _, tt := range []struct {
		name       string
		last, next *Plan
		keep       func(string) bool
		want       *Plan
	}{
		{"the first plan is as it is", nil, &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}}, nil,
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}}},
		{"a subscription that is dropped is retired, on a bus that nothing else needs", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}}, &Plan{}, nil,
			&Plan{Buses: []Bus{busA}, Retired: []Retired{retired("1")}}},
		{"it stays retired until it is removed", &Plan{Buses: []Bus{busA}, Retired: []Retired{retired("1")}}, &Plan{}, nil,
			&Plan{Buses: []Bus{busA}, Retired: []Retired{retired("1")}}},
		{"unless it is wanted again", &Plan{Buses: []Bus{busA}, Retired: []Retired{retired("1")}}, &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}}, nil,
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}}},
		{"another bus that leads to the same broker takes the subscription over", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{Buses: []Bus{cluster}, Subscribers: []Subscriber{sub("1", cluster.Name)}}, nil,
			&Plan{Buses: []Bus{cluster}, Subscribers: []Subscriber{sub("1", cluster.Name)}}},
		{"nothing is removed from a broker that the bus has left", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{Buses: []Bus{moved}, Subscribers: []Subscriber{sub("2", busA.Name)}}, nil,
			&Plan{Buses: []Bus{moved}, Subscribers: []Subscriber{sub("2", busA.Name)}}},
		{"nor from one that its subscriber has left for another bus", &Plan{Buses: []Bus{other}, Subscribers: []Subscriber{sub("1", other.Name)}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}}, nil,
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}}},
		{"a subscriber whose target is edited keeps its subscription", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("2", busA.Name)}}, nil,
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{heir("1", "2")}}},
		{"with a passing problem the old goes on", &Plan{Buses: []Bus{busA}, Sources: []Source{cron("e")}, Subscribers: []Subscriber{sub("1", busA.Name)}}, &Plan{}, all,
			&Plan{Buses: []Bus{busA}, Sources: []Source{cron("e")}, Subscribers: []Subscriber{sub("1", busA.Name)}}},
		{"beside the new", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("2", busA.Name)}}, &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}, Waiting: []string{"2"}}, all,
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name), sub("2", busA.Name)}}},
		{"a source that is dropped is gone", &Plan{Buses: []Bus{busA}, Sources: []Source{cron("e"), cron("f")}}, &Plan{Buses: []Bus{busA}, Sources: []Source{cron("f")}}, nil,
			&Plan{Buses: []Bus{busA}, Sources: []Source{cron("f")}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(text(Succeed(tt.last, tt.next, tt.keep)), text(tt.want)); diff != "" {
				t.Errorf("Succeed (-got +want):\n%s", diff)
			}
		})
	}
}

func TestSucceedBoundsItsMemory(t *testing.T) {
	last := &Plan{Buses: []Bus{{Name: "b", Embedded: &Embedded{}}}}
	for i := range 100 {
		last.Subscribers = append(last.Subscribers, Subscriber{ID: string(rune('a' + i)), Trigger: "d/t", Bus: "b"})
	}
	if got := len(Succeed(last, &Plan{}, nil).Retired); got != maxRetired {
		t.Errorf("%d subscriptions are retired, want %d", got, maxRetired)
	}
}
