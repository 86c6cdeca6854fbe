package natsstreaming

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-streaming-server/stores"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/plan"
)

const (
	discarded     = "the server has discarded events that "
	certainlyLost = discarded + "were not delivered"
	perhapsLost   = discarded + "may not have been delivered"
)

func lines(logs *observer.ObservedLogs, snippet string) []observer.LoggedEntry {
	return logs.FilterMessageSnippet(snippet).All()
}

func limitedBroker(t *testing.T, dir string, limits stores.ChannelLimits) *broker {
	t.Helper()
	b := startBroker(t, dir)
	b.stop(t)
	b.limits = limits
	b.start(t)
	return b
}

func connectLogged(t *testing.T, c plan.NATSStreaming) (*Bus, *observer.ObservedLogs) {
	t.Helper()
	return connectLoggedAs(t, instance(), c)
}

func connectLoggedAs(t *testing.T, instance string, c plan.NATSStreaming) (*Bus, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	b := New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), Options{Name: "EventBus default/default", Config: c, Instance: instance})
	t.Cleanup(func() { _ = b.Close() })
	return b, logs
}

// gated is a subscription that acknowledges nothing while it is shut.
type gated struct {
	mu   sync.Mutex
	open bool
	held []*bus.Message
	got  map[string]bool
}

func subscribeGated(t *testing.T, b bus.Bus, s bus.Subscription) *gated {
	t.Helper()
	g := &gated{got: map[string]bool{}}
	ready := make(chan struct{})
	s.Ready = func(err error) {
		if err == nil {
			close(ready)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = b.Subscribe(ctx, s, func(m *bus.Message) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.got[m.Event.ID()] = true
			if !g.open {
				g.held = append(g.held, m)
				return
			}
			m.Done(nil)
		})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-ready:
	case <-time.After(30 * time.Second):
		t.Fatal("the subscription is not ready")
	}
	return g
}

func (g *gated) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = open
	for _, m := range g.held {
		m.Done(nil)
	}
	g.held = nil
}

func (g *gated) has(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got[id]
}

func (g *gated) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.got)
}

func TestEventsThatTheServerDiscardedAreTold(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]bool{"a queue with one member": true, "type topic": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := limitedBroker(t, "", stores.ChannelLimits{MsgStoreLimits: stores.MsgStoreLimits{MaxMsgs: 10}})
			c := config(s.url())
			c.Queue = queue
			b, logs := connectLogged(t, c)
			g := subscribeGated(t, b, bus.Subscription{Name: "s", Topics: []string{"topic"}, MaxInFlight: 2})
			lost := func() (events uint64) {
				for _, line := range lines(logs, certainlyLost) {
					if line.ContextMap()["channel"] != "topic" || line.ContextMap()["subscription"] != "s" {
						t.Errorf("logged %v, want of subscription s to channel topic", line.ContextMap())
					}
					events += line.ContextMap()["events"].(uint64)
				}
				return events
			}
			published := 0
			for round := range 2 {
				g.set(false)
				for range 60 {
					publish(t, b, "topic", fmt.Sprint("e", published))
					published++
				}
				g.set(true)
				eventually(t, "the last event comes", func() bool { return g.has(fmt.Sprint("e", published-1)) })
				missing := uint64(published - g.count())
				if missing == 0 {
					t.Fatal("nothing was discarded: the test shows nothing")
				}
				eventually(t, fmt.Sprintf("in round %d, it is told that %d events are lost", round, missing), func() bool { return lost() == missing })
			}
			want := "channel topic discarded events that subscription s had not got, since it is at its limits: " +
				"raise max_msgs, max_bytes and max_age of the channel in the server's store_limits"
			if got := b.Losing(); got != want {
				t.Errorf("Losing() = %q, want %q", got, want)
			}
			if told := lines(logs, perhapsLost); len(told) != 0 {
				t.Errorf("logged %v, want that it is certain", told)
			}
		})
	}
}

func TestOfSeveralLossesTheSameIsTold(t *testing.T) {
	t.Parallel()
	b := &Bus{losses: map[string]time.Time{}}
	if got := b.Losing(); got != "" {
		t.Errorf("before any loss, Losing() = %q", got)
	}
	for _, what := range []string{"c", "a", "b", "a", "c"} {
		b.lose(what)
	}
	for range 20 {
		if got := b.Losing(); got != "a" {
			t.Fatalf("Losing() = %q, want a", got)
		}
	}
	b.losses["a"] = b.losses["a"].Add(-tellLoss)
	if got := b.Losing(); got != "b" {
		t.Errorf("an hour after a, Losing() = %q, want b", got)
	}
	for what, last := range b.losses {
		b.losses[what] = last.Add(-tellLoss)
	}
	if got := b.Losing(); got != "" {
		t.Errorf("an hour later, Losing() = %q", got)
	}
}

// A channel at its limits may have nearly one gap per message, for as long as its subscription is too slow.
func TestManyGapsAreOneQuestion(t *testing.T) {
	t.Parallel()
	f := newTestFlow(1)
	for sequence := uint64(1); sequence <= 2001; sequence += 2 {
		f.follow(place{topic: "a", sequence: sequence}, false)
		f.follow(place{topic: "b", sequence: 3 * sequence}, false)
	}
	f.follow(place{topic: "anew", sequence: 7}, false)
	f.follow(place{topic: "anew", sequence: 9}, false)
	f.follow(place{topic: "anew", sequence: 1}, false) // of a server that has lost its store
	f.follow(place{topic: "a", sequence: 4}, true)
	gaps := f.takeGaps()
	want := map[string]missing{"a": {from: 2, events: 1000, next: 3, until: 2001}, "b": {from: 4, events: 5000, next: 9, until: 6003}}
	if diff := cmp.Diff(want, gaps, compareMissing); diff != "" {
		t.Errorf("takeGaps() differs (-want +got):\n%s", diff)
	}
	if again := f.takeGaps(); len(again) != 0 {
		t.Errorf("takeGaps() again = %v, want nothing", again)
	}
	// The sessions have no connection: who asks them panics.
	ended, end := context.WithCancel(t.Context())
	end()
	(&membership{session: &session{lost: make(chan struct{})}}).tellMissing(ended, gaps)
	lost := make(chan struct{})
	close(lost)
	(&membership{session: &session{lost: lost}}).tellMissing(t.Context(), gaps)
}

// What another member got, what was acknowledged before it was discarded, and what comes again are not lost.
func TestNothingIsToldWhereNothingIsLost(t *testing.T) {
	t.Parallel()
	t.Run("two members, one of which leaves", func(t *testing.T) {
		t.Parallel()
		s := limitedBroker(t, "", stores.ChannelLimits{MsgStoreLimits: stores.MsgStoreLimits{MaxMsgs: 5, MaxAge: time.Second}})
		sub := bus.Subscription{Name: "s", Topics: []string{"topic"}}
		a, logs := connectLogged(t, config(s.url()))
		other, otherLogs := connectLogged(t, config(s.url()))
		one := subscribe(t, a, sub)
		publish(t, a, "topic", "first")
		one.wants(t, "first")
		two := subscribe(t, other, sub)
		total := func() int { return len(one.ids()) + len(two.ids()) }
		for i := range 40 {
			publish(t, a, "topic", fmt.Sprint("e", i))
			eventually(t, "it is acknowledged by one of them", func() bool { return total() == i+2 })
		}
		if len(two.ids()) == 0 {
			t.Fatal("the other member got nothing: the test shows nothing")
		}
		if err := two.stop(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all is expired", isEmpty(a, "topic"))
		for i := range 3 {
			publish(t, a, "topic", fmt.Sprint("late", i))
			eventually(t, "it comes", func() bool { return total() == 42+i })
		}
		time.Sleep(membersAnswerWithin + time.Second) // by then it would be told
		// What may be lost is not asked here: a machine that stalls makes the members late for so few messages.
		if told := slices.Concat(lines(logs, certainlyLost), lines(otherLogs, certainlyLost)); len(told) != 0 {
			t.Errorf("logged %v", told)
		}
	})
	t.Run("redelivery, expiry and a new connection", func(t *testing.T) {
		t.Parallel()
		s := limitedBroker(t, t.TempDir(), stores.ChannelLimits{MsgStoreLimits: stores.MsgStoreLimits{MaxMsgs: 5}})
		b, logs := connectLogged(t, config(s.url()))
		var mu sync.Mutex
		seen := map[string]int{}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- b.Subscribe(ctx, bus.Subscription{Name: "s", Topics: []string{"topic"}}, func(m *bus.Message) {
				mu.Lock()
				defer mu.Unlock()
				if seen[m.Event.ID()]++; seen[m.Event.ID()] == 1 && strings.HasSuffix(m.Event.ID(), "7") {
					m.Done(errors.New("not now"))
					return
				}
				m.Done(nil)
			})
		}()
		t.Cleanup(func() { cancel(); <-ended })
		for i := range 30 {
			id := fmt.Sprint("e", i)
			if i == 10 || i == 20 {
				s.stop(t)
				eventually(t, "the server is away", func() bool { return b.Ready() != nil })
				s.start(t)
			}
			eventually(t, id+" comes", func() bool {
				publish(t, b, "topic", id) // the subscription may not be there yet
				mu.Lock()
				defer mu.Unlock()
				return seen[id] > 0
			})
		}
		time.Sleep(membersAnswerWithin + time.Second) // by then it would be told
		if told := lines(logs, discarded); len(told) != 0 {
			t.Errorf("logged %v", told)
		}
	})
}
