package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestSucceed(t *testing.T) {
	busA, moved := Bus{Name: "EventBus d/a", JetStream: &JetStream{URL: "nats://a"}}, Bus{Name: "EventBus d/a", JetStream: &JetStream{URL: "nats://b"}}
	cluster := Bus{Name: "ClusterEventBus a", JetStream: &JetStream{URL: "nats://a"}}
	other := Bus{Name: "ClusterEventBus a", JetStream: &JetStream{URL: "nats://b"}}
	sub := func(id, bus string) Subscriber {
		return Subscriber{ID: id, Trigger: "d/t", Bus: bus, Inputs: []Input{{Topic: "y"}, {Topic: "x"}, {Topic: "y"}}, Topic: "out"}
	}
	remembered := func(id string) Subscriber {
		s := sub(id, busA.Name)
		s.Topic = ""
		return s
	}
	heirOf := func(id string, s Subscriber) Subscriber {
		s.become(id)
		return s
	}
	heir := func(id, key string) Subscriber { return heirOf(id, sub(key, busA.Name)) }
	retired := func(id string) Retired { return Retired{Bus: busA.Name, ID: id, Topics: []string{"x", "y"}} }
	cron := func(event string) Source {
		return Source{Namespace: "d", EventSource: "es", Event: event, Kind: "cron", Bus: busA.Name}
	}
	needs := func(id string) Source {
		s := cron("e")
		s.Needs = id
		return s
	}
	waits := func(id string) Subscriber {
		s := sub(id, "")
		return s.waiting()
	}
	sources := func(events ...string) (all []Source) {
		for _, e := range events {
			s := cron(e)
			all = append(all, s.waiting())
		}
		return all
	}
	condition := func(s Subscriber, condition string) Subscriber {
		s.Condition = condition
		return s
	}

	for _, tt := range []struct {
		name       string
		last, next *Plan
		want       *Plan
	}{
		{"the first plan is as it is", nil, &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}}},
		{"a subscription that is dropped is retired, on a bus that nothing else needs", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}}, &Plan{},
			&Plan{Buses: []Bus{busA}, Retired: []Retired{retired("1")}}},
		{"it stays retired until it is removed", &Plan{Buses: []Bus{busA}, Retired: []Retired{retired("1")}}, &Plan{},
			&Plan{Buses: []Bus{busA}, Retired: []Retired{retired("1")}}},
		{"unless it is wanted again", &Plan{Buses: []Bus{busA}, Retired: []Retired{retired("1")}}, &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}}},
		{"another bus that leads to the same broker takes the subscription over", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{Buses: []Bus{cluster}, Subscribers: []Subscriber{sub("1", cluster.Name)}},
			&Plan{Buses: []Bus{cluster}, Subscribers: []Subscriber{sub("1", cluster.Name)}}},
		{"nothing is removed from a broker that the bus has left", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{Buses: []Bus{moved}, Subscribers: []Subscriber{sub("2", busA.Name)}},
			&Plan{Buses: []Bus{moved}, Subscribers: []Subscriber{sub("2", busA.Name)}}},
		{"nor from one that its subscriber has left for another bus", &Plan{Buses: []Bus{other}, Subscribers: []Subscriber{sub("1", other.Name)}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}}},
		{"a subscriber whose target is edited keeps its subscription", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("2", busA.Name)}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{heir("1", "2")}}},
		{"what waits goes on as it was", &Plan{Buses: []Bus{busA}, Sources: []Source{cron("e")}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{WaitingSources: sources("e"), Waiting: []Subscriber{waits("1")}},
			&Plan{Buses: []Bus{busA}, Sources: []Source{cron("e")}, Subscribers: []Subscriber{sub("1", busA.Name)}}},
		{"beside what runs", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("2", busA.Name)}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}, Waiting: []Subscriber{waits("2")}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name), sub("2", busA.Name)}}},
		{"whose target was edited keeps its subscription, too", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{Waiting: []Subscriber{waits("2")}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}, Waiting: []Subscriber{heirOf("1", waits("2"))}}},
		{"also if its inputs are not known", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{Waiting: []Subscriber{{ID: "2", Trigger: "d/t"}}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}, Waiting: []Subscriber{{ID: "1", Key: "2", Trigger: "d/t"}}}},
		{"as long as it waits", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}, Waiting: []Subscriber{heirOf("1", waits("2"))}},
			&Plan{Waiting: []Subscriber{waits("2")}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}, Waiting: []Subscriber{heirOf("1", waits("2"))}}},
		{"and has it when it runs", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}, Waiting: []Subscriber{heirOf("1", waits("2"))}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{condition(sub("2", busA.Name), "edited meanwhile")}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{condition(heir("1", "2"), "edited meanwhile")}}},
		{"or when the edit is undone", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}, Waiting: []Subscriber{heirOf("1", waits("2"))}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{condition(sub("1", busA.Name), "edited meanwhile")}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{condition(sub("1", busA.Name), "edited meanwhile")}}},
		{"what is removed while another waits ends", &Plan{Buses: []Bus{busA}, Sources: []Source{cron("e"), cron("f")}, Subscribers: []Subscriber{sub("1", busA.Name), sub("2", busA.Name)}},
			&Plan{WaitingSources: sources("f"), Waiting: []Subscriber{waits("2")}},
			&Plan{Buses: []Bus{busA}, Sources: []Source{cron("f")}, Subscribers: []Subscriber{sub("2", busA.Name)}, Retired: []Retired{retired("1")}}},
		{"also if the other one never ran and is like it", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}, Waiting: []Subscriber{waits("2")}},
			&Plan{Waiting: []Subscriber{waits("2")}},
			&Plan{Buses: []Bus{busA}, Waiting: []Subscriber{waits("2")}, Retired: []Retired{retired("1")}}},
		{"but of two that are edited to what waits, both go on", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name), sub("2", busA.Name)}},
			&Plan{Waiting: []Subscriber{waits("3"), waits("4")}},
			&Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name), sub("2", busA.Name)}, Waiting: []Subscriber{heirOf("1", waits("3")), heirOf("2", waits("4"))}}},
		{"what waits with another condition is another", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{Waiting: []Subscriber{condition(waits("2"), "other")}},
			&Plan{Buses: []Bus{busA}, Waiting: []Subscriber{condition(waits("2"), "other")}, Retired: []Retired{retired("1")}}},
		{"what waits and then runs on a bus that was moved leaves nothing behind", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{sub("1", busA.Name)}},
			&Plan{Buses: []Bus{moved}, Subscribers: []Subscriber{sub("3", busA.Name)}, Waiting: []Subscriber{waits("1")}},
			&Plan{Buses: []Bus{moved}, Subscribers: []Subscriber{sub("3", busA.Name)}, Waiting: []Subscriber{waits("1")}}},
		{"what waits and does not run is still known to wait", &Plan{Buses: []Bus{busA}, Sources: []Source{cron("e")}}, &Plan{WaitingSources: sources("e", "f")},
			&Plan{Buses: []Bus{busA}, Sources: []Source{cron("e")}, WaitingSources: sources("f")}},
		{"what was on a bus that nobody knows just now does not run, and is inherited by what waits", &Plan{Subscribers: []Subscriber{heir("1", "2")}},
			&Plan{WaitingSources: sources("e"), Waiting: []Subscriber{waits("2")}},
			&Plan{WaitingSources: sources("e"), Waiting: []Subscriber{heirOf("1", waits("2"))}}},
		{"also by what its target was edited to", &Plan{Subscribers: []Subscriber{heir("1", "2")}}, &Plan{Waiting: []Subscriber{waits("3")}},
			&Plan{Waiting: []Subscriber{heirOf("1", waits("3"))}}},
		{"what is only remembered does not run while it waits", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{remembered("1")}},
			&Plan{Buses: []Bus{busA}, Waiting: []Subscriber{waits("1")}},
			&Plan{Buses: []Bus{busA}, Waiting: []Subscriber{waits("1")}}},
		{"has what its target was edited to as its heir", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{remembered("1")}},
			&Plan{Buses: []Bus{busA}, Waiting: []Subscriber{waits("2")}},
			&Plan{Buses: []Bus{busA}, Waiting: []Subscriber{heirOf("1", waits("2"))}}},
		{"and is retired when it waits no longer", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{remembered("1")}}, &Plan{Buses: []Bus{busA}},
			&Plan{Buses: []Bus{busA}, Retired: []Retired{retired("1")}}},
		{"a source whose sink waits for a Secret waits too if nobody keeps its events", nil, &Plan{Buses: []Bus{busA}, Sources: []Source{needs("1")}, Waiting: []Subscriber{waits("1")}},
			&Plan{Buses: []Bus{busA}, WaitingSources: sources("e"), Waiting: []Subscriber{waits("1")}}},
		{"also if the status names a subscription, which may be one that waited", nil,
			&Plan{Buses: []Bus{busA}, Sources: []Source{needs("1")}, Waiting: []Subscriber{waits("1")}, Remembered: []Subscriber{{ID: "1"}}},
			&Plan{Buses: []Bus{busA}, WaitingSources: sources("e"), Waiting: []Subscriber{waits("1")}}},
		{"or if they are kept elsewhere", &Plan{Buses: []Bus{moved}, Subscribers: []Subscriber{remembered("1")}},
			&Plan{Buses: []Bus{busA}, Sources: []Source{needs("1")}, Waiting: []Subscriber{waits("1")}},
			&Plan{Buses: []Bus{busA}, WaitingSources: sources("e"), Waiting: []Subscriber{waits("1")}}},
		{"but runs if they are kept", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{remembered("1")}},
			&Plan{Buses: []Bus{busA}, Sources: []Source{needs("1")}, Waiting: []Subscriber{waits("1")}},
			&Plan{Buses: []Bus{busA}, Sources: []Source{cron("e")}, Waiting: []Subscriber{waits("1")}}},
		{"also if the reference was edited", &Plan{Buses: []Bus{busA}, Subscribers: []Subscriber{remembered("1")}},
			&Plan{Buses: []Bus{busA}, Sources: []Source{needs("2")}, Waiting: []Subscriber{waits("2")}},
			&Plan{Buses: []Bus{busA}, Sources: []Source{cron("e")}, Waiting: []Subscriber{heirOf("1", waits("2"))}}},
		{"or if it runs already", &Plan{Buses: []Bus{busA}, Sources: []Source{cron("e")}},
			&Plan{Buses: []Bus{busA}, Sources: []Source{needs("1")}, Waiting: []Subscriber{waits("1")}},
			&Plan{Buses: []Bus{busA}, Sources: []Source{cron("e")}, Waiting: []Subscriber{waits("1")}}},
		{"a source that is dropped is gone", &Plan{Buses: []Bus{busA}, Sources: []Source{cron("e"), cron("f")}}, &Plan{Buses: []Bus{busA}, Sources: []Source{cron("f")}},
			&Plan{Buses: []Bus{busA}, Sources: []Source{cron("f")}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Succeed(tt.last, tt.next)
			if diff := cmp.Diff(text(got), text(tt.want)); diff != "" {
				t.Errorf("Succeed (-got +want):\n%s", diff)
			}
			if diff := cmp.Diff(got.WaitingSources, tt.want.WaitingSources, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("Succeed, sources that wait (-got +want):\n%s", diff)
			}
		})
	}
}

func TestSucceedBoundsItsMemory(t *testing.T) {
	last := &Plan{Buses: []Bus{{Name: "b", Embedded: &Embedded{}}}}
	for i := range 100 {
		last.Subscribers = append(last.Subscribers, Subscriber{ID: string(rune('a' + i)), Trigger: "d/t", Bus: "b"})
	}
	if got := len(Succeed(last, &Plan{}).Retired); got != maxRetired {
		t.Errorf("%d subscriptions are retired, want %d", got, maxRetired)
	}
}
