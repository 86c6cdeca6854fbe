package jetstream_test

import (
	"testing"
	"time"

	"github.com/openfunction/events/pkg/gateway/bus"
)

func TestTopicsKeepEventsForAsLongAsTheBusSays(t *testing.T) {
	const day = 24 * time.Hour
	s := newBroker(t, false)
	js := manager(t, s)
	age := func(topic string) time.Duration {
		t.Helper()
		stream, err := js.Stream(t.Context(), "openfunction-topic-"+topic)
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().Config.MaxAge
	}
	edit := func(topic string, to time.Duration) {
		t.Helper()
		stream, err := js.Stream(t.Context(), "openfunction-topic-"+topic)
		if err != nil {
			t.Fatal(err)
		}
		c := stream.CachedInfo().Config
		c.MaxAge = to
		if _, err := js.UpdateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	lowered := 0
	for _, step := range []struct {
		name, bus, topic string
		retention        time.Duration
		edit             time.Duration // by a person, before
		want             time.Duration
	}{
		{"a week unless the bus says something", "a", "metrics", 0, 0, 7 * day},
		{"what a person changed stays", "a", "metrics", 0, 9 * day, 9 * day},
		{"the bus says something", "a", "metrics", 30 * day, 0, 30 * day},
		{"and then something else", "a", "metrics", 2 * day, 0, 2 * day},
		{"another bus does not", "b", "metrics", day, 0, 2 * day},
		{"the bus says nothing any more", "a", "metrics", 0, 0, 2 * day},
		{"a new topic", "b", "audit", day, 0, day},
		{"a topic that a bus makes, which says nothing", "a", "logs", 0, 0, 7 * day},
		{"another bus does not delete its events", "b", "logs", time.Hour, 0, 7 * day},
		{"but may keep them for longer", "b", "logs", 30 * day, 0, 30 * day},
		{"which only it takes back", "a", "logs", day, 0, 30 * day},
		{"as it may", "b", "logs", day, 0, day},
	} {
		if step.edit > 0 {
			edit(step.topic, step.edit)
		}
		o := s.options()
		o.Name, o.Config.TopicRetention = "EventBus default/"+step.bus, step.retention
		b, logs := openLogged(t, o)
		publish(t, b.Topic(bus.Topic{Name: step.topic}), newEvent(t, step.name, nil))
		publish(t, b.Topic(bus.Topic{Name: "openfunction.ns.trigger.t.deadletter"}), newEvent(t, step.name, nil))
		if got := age(step.topic); got != step.want {
			t.Errorf("%s: topic %s keeps events for %s, want %s", step.name, step.topic, got, step.want)
		}
		lowered += logs.FilterMessageSnippet("those that are older are deleted").Len()
	}
	if lowered != 2 {
		t.Errorf("it was said %d times that events are deleted, want 2", lowered)
	}
	letters, err := js.Stream(t.Context(), "openfunction-deadletters")
	if err != nil {
		t.Fatal(err)
	}
	if c := letters.CachedInfo().Config; c.MaxAge != 0 || c.Metadata["events.openfunction.io/max-age-from"] != "" {
		t.Errorf("dead letters are kept for %s, want for ever", c.MaxAge)
	}
}
