package jetstream_test

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
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccesstest"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
)

// restricted is a server whose user has some permissions, and a bus of that user.
type restricted struct {
	*server.Server
	options *server.Options
	bus     *jetstream.Bus
	logs    *observer.ObservedLogs
	admin   natsjs.JetStream
}

// restrict starts a server whose user may do what o says, or less.
func restrict(t *testing.T, publish, subscribe []string) *restricted {
	t.Helper()
	r := &restricted{options: &server.Options{Users: []*server.User{{Username: "admin", Password: "p"}, natsaccesstest.User(publish, subscribe)}}}
	r.Server = guarded(t, r.options)
	nc, err := nats.Connect(r.ClientURL(), nats.UserInfo("admin", "p"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if r.admin, err = natsjs.New(nc); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.WarnLevel)
	r.logs = logs
	r.bus = jetstream.New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), jetstream.Options{Name: "EventBus a/b", Config: plan.JetStream{
		URL: r.ClientURL(), AckWait: time.Second, NATSAccess: natsaccesstest.Access,
	}})
	t.Cleanup(func() { _ = r.bus.Close() })
	return r
}

// wantsAcknowledged waits until nothing is left for the subscription.
func (r *restricted) wantsAcknowledged(t *testing.T, stream, name string) {
	t.Helper()
	eventually(t, "everything is acknowledged", func() bool {
		c, err := r.admin.Consumer(t.Context(), stream, name)
		return err == nil && c.CachedInfo().NumAckPending == 0 && c.CachedInfo().NumPending == 0
	})
}

// a trip is what a bus is used for, step by step.
type trip struct {
	bus   *jetstream.Bus
	state map[string]*state // of the subscriptions, by topic
	steps []step
}

type step struct {
	name string
	try  func() error
}

// state is what a subscription received and last reported.
type state struct {
	mu  sync.Mutex
	err error
	ids []string
}

func (s *state) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *state) received() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ids)
}

// begin subscribes until the test ends.
func (s *state) begin(t *testing.T, b *jetstream.Bus, name, topic string) {
	s.err = errors.New("nothing reported yet")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Subscribe(ctx, bus.Subscription{Name: name, Topics: []string{topic}, Ready: func(err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.err = err
		}}, func(m *bus.Message) {
			s.mu.Lock()
			s.ids = append(s.ids, m.Event.ID())
			s.mu.Unlock()
			m.Done(nil)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

const eventTopic = "openfunction.ns.es.e"

func newTrip(t *testing.T, b *jetstream.Bus) *trip {
	tr := &trip{bus: b, state: map[string]*state{}}
	tr.steps = append(tr.steps, step{"the bus", b.Ready})
	for _, topic := range []string{eventTopic, "metrics"} {
		s := &state{}
		tr.state[topic] = s
		s.begin(t, b, "s", topic)
		tr.steps = append(tr.steps, step{"the subscription to " + topic, s.ready}, step{"publishing on " + topic, func() error {
			return b.Topic(bus.Topic{Name: topic}).Handle(t.Context(), newEvent(t, "e", nil))
		}})
	}
	tr.steps = append(tr.steps, step{"removing a subscription", func() error {
		return b.Unsubscribe(t.Context(), bus.Subscription{Name: "other", Topics: []string{eventTopic, "metrics"}})
	}})
	return tr
}

// run takes one step after the other until one says want, and returns that one and what it says.
func (tr *trip) run(t *testing.T, want string) (step, string) {
	t.Helper()
	for _, s := range tr.steps {
		var err error
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if err = s.try(); err == nil {
				break
			}
			if want != "" && strings.Contains(err.Error(), want) {
				return s, err.Error()
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s says %v", s.name, err)
			}
		}
	}
	if want != "" {
		t.Fatalf("nothing says %q", want)
	}
	return step{}, ""
}

// What the documentation permits is enough, and no more than that: without any of it something says what to permit, the same all the time, and
// goes on by itself when it is permitted.
func TestPermissions(t *testing.T) {
	t.Parallel()
	publish, subscribe := natsaccesstest.Documented(t, "nats-jetstream.conf")
	if diff := cmp.Diff(jetstream.Grants.Publish, natsaccesstest.Without(publish, "metrics")); diff != "" {
		t.Errorf("docs differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(jetstream.Grants.Subscribe, subscribe); diff != "" {
		t.Errorf("docs differ (-want +got):\n%s", diff)
	}
	var together sync.WaitGroup
	defer together.Wait()
	one := func(name, missing, want string, publish0, subscribe0 []string) {
		together.Go(func() {
			t.Run(name, func(t *testing.T) {
				r := restrict(t, publish0, subscribe0)
				tr := newTrip(t, r.bus)
				if missing != "" {
					s, said := tr.run(t, want)
					natsaccesstest.StaysSame(t, said, s.try)
					natsaccesstest.Permit(t, r.Server, r.options, publish, subscribe)
				}
				tr.run(t, "")
				for topic, s := range tr.state {
					eventually(t, "the event of "+topic, func() bool { return len(s.received()) > 0 })
					if diff := cmp.Diff([]string{"e"}, s.received()); diff != "" {
						t.Errorf("%s: received differs (-want +got):\n%s", topic, diff)
					}
				}
				r.wantsAcknowledged(t, "openfunction-events", "s")
				r.wantsAcknowledged(t, "openfunction-topic-metrics", "s")
				natsaccesstest.NoRepeats(t, r.logs.All())
			})
		})
	}
	one("nothing is missing", "", "", publish, subscribe)
	for _, grant := range publish {
		one(grant, grant, fmt.Sprintf(`): permit to publish to %q for the user "events"`, grant), natsaccesstest.Without(publish, grant), subscribe)
	}
	one("_INBOX.>", "_INBOX.>", `(Permissions Violation for Subscription to "_INBOX.>"): permit to subscribe to "_INBOX.>" for the user "events"`, publish, []string{"none"})
}

// What is not permitted any more is said of whom it concerns. It is not delivered again meanwhile, nor lost.
func TestPermissionsThatAreTakenAway(t *testing.T) {
	t.Parallel()
	permitted, subscribe := natsaccesstest.Documented(t, "nats-jetstream.conf")
	var together sync.WaitGroup
	defer together.Wait()
	run := func(name string, f func(*testing.T, *restricted)) {
		together.Go(func() {
			t.Run(name, func(t *testing.T) { f(t, restrict(t, permitted, subscribe)) })
		})
	}
	run("to acknowledge", func(t *testing.T, r *restricted) {
		var in state
		in.begin(t, r.bus, "s", eventTopic)
		eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
		natsaccesstest.Permit(t, r.Server, r.options, natsaccesstest.Without(permitted, "$JS.ACK.>"), subscribe)
		topic := r.bus.Topic(bus.Topic{Name: eventTopic})
		if err := topic.Handle(t.Context(), newEvent(t, "e1", nil)); err != nil {
			t.Error(err)
		}
		const want = `subscription s: the server lets us in, but permits too little (Permissions Violation for Publish to "$JS.ACK.openfunction-events.s.>"): permit to publish to "$JS.ACK.>" for the user "events"`
		eventually(t, want, func() bool { err := in.ready(); return err != nil && err.Error() == want })
		natsaccesstest.StaysSame(t, want, in.ready)
		if err := topic.Handle(t.Context(), newEvent(t, "e2", nil)); err != nil {
			t.Errorf("publishing goes on: %v", err)
		}
		natsaccesstest.Permit(t, r.Server, r.options, permitted, subscribe)
		eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
		r.wantsAcknowledged(t, "openfunction-events", "s")
		if diff := cmp.Diff([]string{"e1", "e2"}, in.received()); diff != "" {
			t.Errorf("received differs (-want +got):\n%s", diff)
		}
		natsaccesstest.NoRepeats(t, r.logs.All())
	})
	run("to receive answers", func(t *testing.T, r *restricted) {
		var in state
		in.begin(t, r.bus, "s", eventTopic)
		eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
		natsaccesstest.Permit(t, r.Server, r.options, permitted, []string{"none"})
		const want = `EventBus a/b is unavailable: the server lets us in, but permits too little (Permissions Violation for Subscription to "_INBOX.>"): permit to subscribe to "_INBOX.>" for the user "events"`
		eventually(t, want, func() bool { err := r.bus.Ready(); return err != nil && err.Error() == want })
		natsaccesstest.StaysSame(t, want, r.bus.Ready)
		natsaccesstest.Permit(t, r.Server, r.options, permitted, subscribe)
		publish(t, r.bus.Topic(bus.Topic{Name: eventTopic}), newEvent(t, "e1", nil))
		eventually(t, "e1", func() bool { return slices.Equal(in.received(), []string{"e1"}) })
		r.wantsAcknowledged(t, "openfunction-events", "s")
		natsaccesstest.NoRepeats(t, r.logs.All())
	})
}
