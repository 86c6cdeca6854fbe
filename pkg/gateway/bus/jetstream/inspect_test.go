package jetstream_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
)

// makeEvents makes the stream of events as a person might.
func makeEvents(t *testing.T, js natsjs.JetStream, change func(*natsjs.StreamConfig)) {
	t.Helper()
	c := natsjs.StreamConfig{
		Name: "openfunction-events", Subjects: []string{"openfunction.*.*.*"}, Retention: natsjs.InterestPolicy, Discard: natsjs.DiscardNew, Duplicates: 2 * time.Minute,
	}
	change(&c)
	if _, err := js.CreateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// edit changes the stream of events as nats stream edit does.
func edit(t *testing.T, js natsjs.JetStream, change func(*natsjs.StreamConfig)) {
	t.Helper()
	s, err := js.Stream(t.Context(), "openfunction-events")
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	change(&c)
	if _, err := js.UpdateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func openLogged(t *testing.T, o jetstream.Options) (*jetstream.Bus, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	b := jetstream.New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), o)
	t.Cleanup(func() { _ = b.Close() })
	eventually(t, "the bus is ready", func() bool { return b.Ready() == nil })
	return b, logs
}

const (
	losesEvents    = "the settings of the stream lose events"
	losesNoEvents  = "the settings of the stream lose no events any more"
	isNotAsTheBus  = "the stream is not as the bus makes it"
	cureByRemoving = "remove the stream once it is empty"
)

// A stream that is there is used as it is. Each of these takes 30 events and does not have all of them when somebody comes for them, or may not.
func TestSettingsThatLoseEventsAreToldWithTheCure(t *testing.T) {
	t.Parallel() // most of it is servers that end
	for name, tt := range map[string]struct {
		change   func(*natsjs.StreamConfig)
		says     []string
		survives int // of 30; -1: whatever
		cure     func(*natsjs.StreamConfig)
	}{
		"as the bus makes it":  {func(*natsjs.StreamConfig) {}, nil, 30, nil},
		"keeps more than need": {func(c *natsjs.StreamConfig) { c.Retention = natsjs.LimitsPolicy }, nil, 30, nil},
		"refuses when full":    {func(c *natsjs.StreamConfig) { c.MaxMsgs, c.MaxBytes, c.MaxMsgSize = 1000, 1<<20, 1<<16 }, nil, 30, nil},
		"refuses when a subject is full": {func(c *natsjs.StreamConfig) {
			c.MaxMsgsPerSubject, c.DiscardNewPerSubject = 1000, true
		}, nil, 30, nil},
		"nothing to discard": {func(c *natsjs.StreamConfig) { c.Discard = natsjs.DiscardOld }, nil, 30, nil},
		"forbids to delete":  {func(c *natsjs.StreamConfig) { c.DenyDelete, c.DenyPurge = true, true }, nil, 30, nil},
		"old messages": {func(c *natsjs.StreamConfig) { c.Discard, c.MaxMsgs = natsjs.DiscardOld, 5 },
			[]string{"discard old and max_msgs 5", "nats stream edit openfunction-events --discard new"}, 5,
			func(c *natsjs.StreamConfig) { c.Discard = natsjs.DiscardNew }},
		"old bytes": {func(c *natsjs.StreamConfig) { c.Discard, c.MaxBytes = natsjs.DiscardOld, 1000 },
			[]string{"discard old and max_bytes 1000", "--discard new"}, -1,
			func(c *natsjs.StreamConfig) { c.Discard = natsjs.DiscardNew }},
		"few of a subject": {func(c *natsjs.StreamConfig) { c.MaxMsgsPerSubject = 3 },
			[]string{"max_msgs_per_subject 3", "--max-msgs-per-subject=-1"}, 3,
			func(c *natsjs.StreamConfig) { c.MaxMsgsPerSubject = -1 }},
		"age": {func(c *natsjs.StreamConfig) { c.MaxAge = time.Hour }, []string{"max_age 1h0m0s", "--max-age 0s"}, 30,
			func(c *natsjs.StreamConfig) { c.MaxAge = 0 }},
		"work queue": {func(c *natsjs.StreamConfig) { c.Retention = natsjs.WorkQueuePolicy }, []string{"retention workqueue", cureByRemoving}, -1, nil},
		"memory":     {func(c *natsjs.StreamConfig) { c.Storage = natsjs.MemoryStorage }, []string{"storage memory", cureByRemoving}, 30, nil},
		"elsewhere": {func(c *natsjs.StreamConfig) {
			c.SubjectTransform = &natsjs.SubjectTransformConfig{Source: "openfunction.*.*.e", Destination: "elsewhere.$1.$2"}
		}, []string{"subject_transform", "--no-transform"}, -1, func(c *natsjs.StreamConfig) { c.SubjectTransform = nil }},
		"forgets subscriptions": {func(c *natsjs.StreamConfig) { c.ConsumerLimits.InactiveThreshold = time.Hour }, []string{"inactive_threshold 1h0m0s"}, 30,
			func(c *natsjs.StreamConfig) { c.ConsumerLimits.InactiveThreshold = 0 }},
		"several at once": {func(c *natsjs.StreamConfig) { c.Discard, c.MaxMsgs, c.MaxAge = natsjs.DiscardOld, 7, time.Hour },
			[]string{"max_msgs 7", "max_age 1h0m0s"}, 7,
			func(c *natsjs.StreamConfig) { c.Discard, c.MaxAge = natsjs.DiscardNew, 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newBroker(t, false)
			js := manager(t, s)
			makeEvents(t, js, tt.change)
			b, logs := openLogged(t, s.options())
			if tt.survives >= 0 {
				if _, err := js.CreateConsumer(t.Context(), "openfunction-events", natsjs.ConsumerConfig{Durable: "late", AckPolicy: natsjs.AckExplicitPolicy}); err != nil {
					t.Fatal(err)
				}
				for i := range 30 {
					publish(t, b.Topic(bus.Topic{Name: "openfunction.ns.es.e"}), newEvent(t, fmt.Sprint("e", i), nil))
				}
				events, err := js.Stream(t.Context(), "openfunction-events")
				if err != nil {
					t.Fatal(err)
				}
				if n := events.CachedInfo().State.Msgs; n != uint64(tt.survives) {
					t.Errorf("of 30 events that were taken, the stream has %d, want %d", n, tt.survives)
				}
			}
			got := b.Losing()
			if tt.says == nil && got != "" {
				t.Errorf("Losing() = %q, want nothing", got)
			}
			for _, says := range tt.says {
				if !strings.Contains(got, says) {
					t.Errorf("Losing() = %q, want that it says %q", got, says)
				}
			}
			if n, want := logs.FilterMessage(losesEvents).Len(), min(1, len(tt.says)); n != want {
				t.Errorf("told %d times in the log, want %d", n, want)
			}
			if err := b.Ready(); err != nil {
				t.Errorf("Ready() = %v: events do flow", err)
			}
			if tt.cure == nil {
				return
			}
			edit(t, js, tt.cure)
			if cured, _ := openLogged(t, s.options()); cured.Losing() != "" {
				t.Errorf("after the cure, Losing() = %q", cured.Losing())
			}
		})
	}
}

func TestALaterEditOfTheStreamIsTold(t *testing.T) {
	t.Parallel() // it waits
	s := newBroker(t, false)
	js := manager(t, s)
	b, logs := openLogged(t, s.options())
	told := func(message string) int { return logs.FilterMessage(message).Len() }

	edit(t, js, func(c *natsjs.StreamConfig) { c.MaxAge = time.Hour })
	for range 2 {
		s.stop(t)
		eventually(t, "the server is away", func() bool { return b.Ready() != nil })
		s.start(t)
		eventually(t, "the server is back", func() bool { return b.Ready() == nil })
		if got := b.Losing(); !strings.Contains(got, "max_age 1h") {
			t.Errorf("after a new connection, Losing() = %q, want that it tells of the edit", got)
		}
	}
	if n := told(losesEvents); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	edit(t, js, func(c *natsjs.StreamConfig) { c.MaxAge = 0 })
	eventually(t, "who asks is told of the cure", func() bool { return b.Losing() == "" })
	if n := told(losesNoEvents); n != 1 {
		t.Errorf("told %d times of the cure, want once", n)
	}
}

func TestALaterEditOfTheStreamIsToldWhereNobodyAsks(t *testing.T) {
	t.Parallel() // it waits
	s := newBroker(t, false)
	b, logs := openLogged(t, s.options())
	publish(t, b.Topic(bus.Topic{Name: "openfunction.ns.es.e"}), newEvent(t, "first", nil)) // which looks
	edit(t, manager(t, s), func(c *natsjs.StreamConfig) { c.Discard, c.MaxMsgs = natsjs.DiscardOld, 1000 })
	eventually(t, "who publishes notices", func() bool {
		publish(t, b.Topic(bus.Topic{Name: "openfunction.ns.es.e"}), newEvent(t, "e", nil))
		return logs.FilterMessage(losesEvents).Len() == 1
	})
}

func TestAShortWindowOfDuplicatesIsToldOnce(t *testing.T) {
	s := newBroker(t, false)
	makeEvents(t, manager(t, s), func(c *natsjs.StreamConfig) { c.Duplicates = time.Second })
	b, logs := openLogged(t, s.options())
	publish(t, b.Topic(bus.Topic{Name: "openfunction.ns.es.e"}), newEvent(t, "e", nil))
	lines := logs.FilterMessage(isNotAsTheBus).All()
	if len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0].ContextMap()["why"]), "nats stream edit openfunction-events --dupe-window 2m") {
		t.Errorf("logged %v, want once, with the cure", lines)
	}
	if got := b.Losing(); got != "" {
		t.Errorf("Losing() = %q: no event is lost", got)
	}
}
