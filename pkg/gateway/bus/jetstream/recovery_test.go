package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
)

func newEvent(t testing.TB, id string, data []byte) *event.Event {
	t.Helper()
	var b event.Binary
	for _, a := range [][2]string{{"specversion", "1.0"}, {"id", id}, {"source", "/test"}, {"type", "test"}} {
		if err := b.Set(a[0], a[1]); err != nil {
			t.Fatal(err)
		}
	}
	e, err := b.Event("application/octet-stream", data)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 90s", what)
		}
	}
}

// publish tries again while the bus is unavailable.
func publish(t testing.TB, h event.Handler, e *event.Event) {
	t.Helper()
	var err error
	eventually(t, "publish "+e.ID(), func() bool {
		err = h.Handle(context.Background(), e)
		var away *event.Unavailable
		return !errors.As(err, &away)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// received collects ids.
type received struct {
	mu  sync.Mutex
	ids []string
}

func (r *received) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.ids, id)
}

// got returns the ids of all that was received.
func (r *received) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids)
}

// subscribe runs s until the test ends; on says what to answer, nil acknowledges.
func subscribe(t testing.TB, b *jetstream.Bus, s bus.Subscription, on func(*bus.Message)) *received {
	t.Helper()
	r, ready := begin(t, b, s, on)
	if err := <-ready; err != nil {
		t.Fatalf("Ready(%v), want nil", err)
	}
	return r
}

// begin is subscribe that does not wait.
func begin(t testing.TB, b *jetstream.Bus, s bus.Subscription, on func(*bus.Message)) (*received, <-chan error) {
	t.Helper()
	r := &received{}
	ready := make(chan error, 100)
	s.Ready = func(err error) {
		select {
		case ready <- err:
		default:
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Subscribe(ctx, s, func(m *bus.Message) {
			r.mu.Lock()
			r.ids = append(r.ids, m.Event.ID())
			r.mu.Unlock()
			if on != nil {
				on(m)
			} else {
				m.Done(nil)
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Subscribe() = %v, want nil", err)
		}
	})
	return r, ready
}

func open(t testing.TB, o jetstream.Options) *jetstream.Bus {
	b := jetstream.New(context.Background(), o)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func manager(t testing.TB, s *broker) natsjs.JetStream {
	t.Helper()
	js, err := natsjs.New(s.connect(t))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// brokenWire fails each write once it is broken. What reads from it does not know yet.
type brokenWire struct {
	net.Conn
	broken *atomic.Bool
	writes *atomic.Int64
}

func (w brokenWire) Write(b []byte) (int, error) {
	if w.broken.Load() {
		w.writes.Add(1)
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
	}
	return w.Conn.Write(b)
}

// Each publication writes, and what is wrong with the connection is known only when it ends.
func TestAConnectionThatBreaksIsSaidOnce(t *testing.T) {
	t.Parallel()
	s := guarded(t, &server.Options{}) // without TLS, which writes no more after the first error
	var broken atomic.Bool
	var writes atomic.Int64
	conns := make(chan net.Conn, 100)
	o := jetstream.Options{Name: "EventBus a/b", Config: plan.JetStream{URL: "nats://" + s.Addr().String()}}
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		conns <- c
		return brokenWire{c, &broken, &writes}, nil
	}
	b, logs := openLogged(t, o)
	topic := b.Topic(bus.Topic{Name: "metrics"})
	publish(t, topic, newEvent(t, "before", nil))
	broken.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	var publications sync.WaitGroup
	for want := int64(1); want <= 20; want++ {
		publications.Go(func() { _ = topic.Handle(ctx, newEvent(t, fmt.Sprint(want), nil)) })
		eventually(t, "a write fails", func() bool { return writes.Load() >= want })
	}
	broken.Store(false)
	_ = (<-conns).Close()
	eventually(t, "the bus is back", func() bool { return logs.FilterMessage("the bus is back").Len() == 1 })
	cancel()
	publications.Wait()
	if n := logs.FilterLevelExact(zap.WarnLevel).Len(); n != 1 {
		t.Errorf("%d warnings, want 1: %v", n, logs.All())
	}
}

func TestRecovery(t *testing.T) {
	const name = "openfunction.test.es.e"
	tests := []struct {
		name   string
		damage func(context.Context, natsjs.JetStream) error
	}{
		{"the consumer is removed behind its back", func(ctx context.Context, js natsjs.JetStream) error {
			return js.DeleteConsumer(ctx, "openfunction-events", "s")
		}},
		{"the stream is removed behind its back", func(ctx context.Context, js natsjs.JetStream) error {
			return js.DeleteStream(ctx, "openfunction-events")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newBroker(t, false)
			b := open(t, s.options())
			topic := b.Topic(bus.Topic{Name: name})
			var held *bus.Message
			r := subscribe(t, b, bus.Subscription{Name: "s", Topics: []string{name}}, func(m *bus.Message) {
				if m.Event.ID() == "held" {
					held = m
					return
				}
				m.Done(nil)
			})
			publish(t, topic, newEvent(t, "held", nil))
			publish(t, topic, newEvent(t, "before", nil))
			eventually(t, "before", func() bool { return r.has("before") })
			if err := tt.damage(t.Context(), manager(t, s)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "an event arrives", func() bool {
				id := time.Now().String()
				publish(t, topic, newEvent(t, id, nil))
				for range 100 {
					if r.has(id) {
						return true
					}
					time.Sleep(time.Millisecond)
				}
				return false
			})
			held.Done(nil)
		})
	}
}

// A source would try such an event for ever, and its dead letter too, if they were not said to be too large.
func TestAttributesThatAreTooLargeAreRefusedForGood(t *testing.T) {
	b := open(t, newBroker(t, false).options())
	topic := b.Topic(bus.Topic{Name: "metrics"})
	publish(t, topic, newEvent(t, "small", nil))
	err := topic.Handle(context.Background(), newEvent(t, strings.Repeat("x", 70<<10), nil))
	if !event.IsPermanent(err) || !errors.Is(err, event.ErrTooLarge) || !strings.Contains(err.Error(), "more than the 64 KiB") {
		t.Errorf("Handle() = %.300v, want a permanent error that names the limit", err)
	}
}

// noLatecomers makes a new stream of events one that is not new any more.
func noLatecomers(t testing.TB, b *jetstream.Bus) {
	t.Helper()
	if _, err := b.Prune(t.Context(), func(name string) bool { return !strings.Contains(name, "~") }); err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	s := newBroker(t, false)
	o := s.options()
	o.Config.MaxBytes = 64 << 10
	b := open(t, o)
	const name = "openfunction.test.es.full"
	topic := b.Topic(bus.Topic{Name: name})
	messages := make(chan *bus.Message, 100)
	subscribe(t, b, bus.Subscription{Name: "s", Topics: []string{name}, Grace: time.Millisecond}, func(m *bus.Message) { messages <- m })
	noLatecomers(t, b)

	data := make([]byte, 10<<10)
	var err error
	n := 0
	for ; err == nil && n < 20; n++ {
		err = topic.Handle(context.Background(), newEvent(t, "e"+string(rune('a'+n)), data))
	}
	var away *event.Unavailable
	if !errors.As(err, &away) || !away.Full {
		t.Fatalf("Handle on a full bus = %v after %d events, want *event.Unavailable that is full", err, n)
	}
	for range n - 1 {
		(<-messages).Done(nil)
	}
	publish(t, topic, newEvent(t, "there is room again", data))
	if got := (<-messages).Event.ID(); got != "there is room again" {
		t.Errorf("received %s, want the event that was taken", got)
	}

	for _, tt := range []struct {
		name, topic string
		data        []byte
	}{
		{"an event that is too large for the server", name, make([]byte, 9<<20)},
		{"a topic with a wildcard", "metrics.*", nil},
		{"a topic with an empty part", "metrics..a", nil},
		{"a topic with a space", "my metrics", nil},
		{"a topic of the server", "$JS.API.INFO", nil},
	} {
		err := b.Topic(bus.Topic{Name: tt.topic}).Handle(context.Background(), newEvent(t, "x", tt.data))
		if !event.IsPermanent(err) {
			t.Errorf("%s: Handle = %v, want a permanent error", tt.name, err)
		}
		if got, want := errors.Is(err, event.ErrTooLarge) && strings.Contains(err.Error(), "more than the 8388608 (8 MiB) that an embedded bus takes"), len(tt.data) > 0; got != want {
			t.Errorf("%s: Handle = %v, too large: %v, want %v", tt.name, err, got, want)
		}
	}
}

func TestOtherProducers(t *testing.T) {
	s := newBroker(t, false)
	b := open(t, s.options())
	const name = "openfunction.test.es.others"
	messages := make(chan *bus.Message, 10)
	subscribe(t, b, bus.Subscription{Name: "s", Topics: []string{name}}, func(m *bus.Message) { m.Done(nil); messages <- m })
	structured := `{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":"x"}`
	tests := []struct {
		name      string
		header    nats.Header
		data      string
		id        string
		malformed string
	}{
		{"structured, as its content type says", nats.Header{"Content-Type": {"application/cloudevents+json; charset=utf-8"}}, structured, "1", ""},
		{"structured without headers", nil, " " + structured, "1", ""},
		{"binary with capitals in its headers", nats.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"2"}, "CE-Source": {"/s"}, "ce-type": {"t"}, "Content-Type": {"text/plain"}}, "x", "2", ""},
		{"binary without a type", nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"3"}, "ce-source": {"/s"}}, "x", "", "attribute type is missing"},
		{"no event at all", nil, "x", "", "neither"},
	}
	nc := s.connect(t)
	for _, tt := range tests {
		if _, err := nc.RequestMsg(&nats.Msg{Subject: name, Header: tt.header, Data: []byte(tt.data)}, 5*time.Second); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		m := <-messages
		if tt.malformed != "" {
			if m.Malformed == nil || !strings.Contains(m.Malformed.Error(), tt.malformed) || string(m.Event.Data()) != tt.data {
				t.Errorf("%s: malformed %v with data %q, want %q with %q", tt.name, m.Malformed, m.Event.Data(), tt.malformed, tt.data)
			}
			continue
		}
		if m.Malformed != nil || m.Event.ID() != tt.id || string(m.Event.Data()) != "x" {
			t.Errorf("%s: got %v, malformed %v, want event %s with data x", tt.name, m.Event, m.Malformed, tt.id)
		}
	}
}

func TestTheFirstEventOfANewStreamReachesTheSubscriptionsOfTheOld(t *testing.T) {
	const name = "openfunction.test.es.e"
	s := newBroker(t, false)
	b := open(t, s.options())
	topic := b.Topic(bus.Topic{Name: name})
	r := subscribe(t, b, bus.Subscription{Name: "s", Topics: []string{name, "openfunction.test.es.f"}}, nil)
	for round := range 5 {
		if err := manager(t, s).DeleteStream(t.Context(), "openfunction-events"); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprint("first of round ", round)
		publish(t, topic, newEvent(t, id, nil)) // the stream keeps only what a consumer wants
		eventually(t, id, func() bool { return r.has(id) })
	}
}

// door leads to the server while it is open.
type door struct {
	*broker
	open atomic.Bool
}

func (d *door) InProcessConn() (net.Conn, error) {
	if !d.open.Load() {
		return nil, errors.New("the door is closed")
	}
	return d.broker.InProcessConn()
}

// In a cluster each source and each Trigger has a process of its own.
func TestNothingIsLostAfterTheStoreWhoeverComesFirst(t *testing.T) {
	const name = "openfunction.test.es.e"
	for _, order := range []string{"source, a, b, restarted", "a, restarted, source, b", "restarted, b, a, source"} {
		t.Run(order, func(t *testing.T) {
			s := newBroker(t, false)
			doors, buses, receivers := map[string]*door{}, map[string]*jetstream.Bus{}, map[string]*received{}
			for _, who := range strings.Split(order, ", ") {
				doors[who] = &door{broker: s}
				doors[who].open.Store(true)
				o := s.options()
				o.InProcess = doors[who]
				buses[who] = open(t, o)
			}
			for _, who := range []string{"a", "b"} {
				receivers[who] = subscribe(t, buses[who], bus.Subscription{Name: who, Topics: []string{name}}, nil)
			}
			topic := buses["source"].Topic(bus.Topic{Name: name})
			published := 0
			another := func() {
				published++
				publish(t, topic, newEvent(t, fmt.Sprint("e", published), nil))
			}
			arrived := func(from int) {
				t.Helper()
				for who, r := range receivers {
					for i := from; i <= published; i++ {
						id := fmt.Sprint("e", i)
						eventually(t, id+" at "+who, func() bool { return r.has(id) })
					}
				}
			}
			another()
			arrived(1)
			for _, d := range doors {
				d.open.Store(false)
			}
			s.wipe(t)
			for who, b := range buses {
				eventually(t, who+" knows that the server went away", func() bool { return b.Ready() != nil })
			}
			receivers["restarted"], _ = begin(t, buses["restarted"], bus.Subscription{Name: "restarted", Topics: []string{name}}, nil)
			for _, who := range strings.Split(order, ", ") {
				doors[who].open.Store(true)
				eventually(t, who+" is back", func() bool { return buses[who].Ready() == nil })
				if doors["source"].open.Load() {
					another()
				}
			}
			another()
			arrived(2)
		})
	}
}

// A source whose events nobody wants publishes them all the same. They are not kept for long.
func TestANewStreamKeepsEventsForLatecomersOnly(t *testing.T) {
	s := newBroker(t, false)
	js := manager(t, s)
	b := open(t, s.options())
	topic := b.Topic(bus.Topic{Name: "openfunction.test.es.unwanted"})
	publish(t, topic, newEvent(t, "e1", nil))
	stream, err := js.Stream(t.Context(), "openfunction-events")
	if err != nil {
		t.Fatal(err)
	}
	messages := func() uint64 {
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs
	}
	if n := messages(); n != 1 {
		t.Errorf("the new stream keeps %d messages that nobody wants yet, want 1", n)
	}
	consumer, err := stream.Consumer(t.Context(), "openfunction~latecomers")
	if err != nil {
		t.Fatal(err)
	}
	c := consumer.CachedInfo().Config
	if c.InactiveThreshold != 30*time.Second {
		t.Errorf("the server removes what keeps them after %s, want 30s", c.InactiveThreshold)
	}
	c.InactiveThreshold = time.Millisecond // the time is over
	if _, err := stream.UpdateConsumer(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream keeps nothing that nobody wants", func() bool { return messages() == 0 })
	publish(t, topic, newEvent(t, "e2", nil))
	if n := messages(); n != 0 {
		t.Errorf("the stream keeps %d messages that nobody wants, want none", n)
	}
}
