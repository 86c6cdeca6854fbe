package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/gateway/room"
)

// wire is a way to the server that can be cut, as it is when a process is killed.
type wire struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return nil, errors.New("cut")
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err == nil {
		w.conns = append(w.conns, c)
	}
	return c, err
}

func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// The server sends again what it sent to a process that was killed, but only after its ack wait, when that has had many new events.
func TestAnOrderedSubscriptionWaitsForWhatAnotherProcessHad(t *testing.T) {
	t.Parallel()
	const name, limit = "openfunction.test.es.ordered", 8
	s := newBroker(t, true)
	w := &wire{}
	o := s.options()
	o.Dial = w.dial
	killed := open(t, o)
	messages := make(chan *bus.Message, 3*limit)
	sub := bus.Subscription{Name: "s", Topics: []string{name}, MaxInFlight: limit, Ordered: true, Grace: time.Millisecond}
	r := subscribe(t, killed, sub, func(m *bus.Message) { messages <- m })
	b := open(t, s.options())
	topic := b.Topic(bus.Topic{Name: name})
	var want []string
	for i := range 3 * limit {
		id := fmt.Sprint("e", i)
		publish(t, topic, newEvent(t, id, nil))
		if i != 0 && i != 2 {
			want = append(want, id)
		}
	}
	for i := range limit {
		if m := <-messages; i == 0 || i == 2 {
			m.Done(nil)
		}
	}
	eventually(t, "the server knows what is done", func() bool { return r.has(fmt.Sprint("e", limit+1)) })
	w.set(true)

	again := subscribe(t, b, sub, nil)
	eventually(t, "the last event", func() bool { return again.has(want[len(want)-1]) })
	if diff := cmp.Diff(want, again.got()); diff != "" {
		t.Errorf("order differs (-published +received):\n%s", diff)
	}
}

// What another process had may be more than there is room for, and more than the subscription may have under way if it is in several streams.
func TestAnOrderedSubscriptionHasRoomForWhatAnotherProcessHad(t *testing.T) {
	t.Parallel()
	const events, limit, size = "openfunction.test.es.large", 16, 10 << 10
	for _, tt := range []struct {
		name      string
		topics    []string
		old, more int // events of each topic, before the process is killed and after
		twice     bool
	}{
		{"what is new would take the room", []string{events}, 3, 17, false},
		{"what is old does not fit", []string{events}, limit + 4, limit, false},
		{"what is old is in two streams", []string{events, "large"}, limit, 3, false},
		{"the next process is killed meanwhile", []string{events}, 3, 17, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newBroker(t, true)
			js := manager(t, s)
			info := func(topic string) *natsjs.ConsumerInfo {
				t.Helper()
				stream, err := js.StreamNameBySubject(t.Context(), topic)
				if err != nil {
					t.Fatal(err)
				}
				c, err := js.Consumer(t.Context(), stream, "s")
				if err != nil {
					t.Fatal(err)
				}
				return c.CachedInfo()
			}
			start := func(w *wire, on func(*bus.Message)) (*received, *observer.ObservedLogs) {
				o := s.options()
				o.Dial = w.dial
				b, logs := openLogged(t, o)
				return subscribe(t, b, bus.Subscription{
					Name: "s", Topics: tt.topics, MaxInFlight: limit, Ordered: true, Grace: time.Millisecond, Room: room.New(10*size).Share(2*size, 1),
				}, on), logs
			}
			never := func(*bus.Message) {}
			var killed, killedNext wire
			start(&killed, never)
			b := open(t, s.options())
			publishAll := func(from, to int) {
				for i := from; i < to; i++ {
					for _, topic := range tt.topics {
						publish(t, b.Topic(bus.Topic{Name: topic}), newEvent(t, fmt.Sprint(topic, i), make([]byte, size)))
					}
				}
			}
			publishAll(0, tt.old)
			for _, topic := range tt.topics {
				eventually(t, "all is sent", func() bool { return info(topic).NumAckPending == min(tt.old, limit) })
			}
			killed.set(true)
			if tt.twice {
				start(&killedNext, never)
				if got := info(events).Config.MaxAckPending; got != 1 {
					t.Errorf("the server may send %d new events before what is old has come, want none", got-1)
				}
				killedNext.set(true)
			}
			publishAll(tt.old, tt.old+tt.more)

			r, logs := start(&wire{}, nil)
			n := tt.old + tt.more
			eventually(t, "all events", func() bool { return len(r.got()) >= n*len(tt.topics) })
			if logs.FilterMessageSnippet("not all that was sent before").Len() > 0 {
				t.Error("it waited in vain for what was sent before")
			}
			for _, topic := range tt.topics {
				var want []string
				for i := range n {
					want = append(want, fmt.Sprint(topic, i))
				}
				got := slices.DeleteFunc(r.got(), func(id string) bool { return !strings.HasPrefix(id, topic) })
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("order differs (-published +received):\n%s", diff)
				}
				if got := info(topic).Config.MaxAckPending; got != limit {
					t.Errorf("at most %d events are under way, want %d", got, limit)
				}
			}
		})
	}
}

// Whoever gathers has the server send nothing new, to others neither.
func TestAnOrderedSubscriptionThatEndsWhileItGathersLimitsNobody(t *testing.T) {
	t.Parallel()
	const name, limit = "openfunction.test.es.ends", 8
	sub := bus.Subscription{Name: "s", Topics: []string{name}, MaxInFlight: limit, Ordered: true, Grace: time.Millisecond}
	never := func(*bus.Message) {}
	for _, tt := range []struct {
		name    string
		ackWait time.Duration // what is looked for may last so much longer
		ends    func(t *testing.T, o jetstream.Options, js natsjs.JetStream)
	}{
		{"in order", time.Hour, func(t *testing.T, o jetstream.Options, js natsjs.JetStream) {
			b := open(t, o)
			subscribe(t, b, sub, never)
			if got := maxAckPending(t, js); got != 1 {
				t.Errorf("while it gathers, %d events may be under way, want 1", got)
			}
			_ = b.Close()
			if got := maxAckPending(t, js); got != limit {
				t.Errorf("when it has ended, %d events may be under way, want %d", got, limit)
			}
		}},
		{"by a kill, of which this is what stays", 500 * time.Millisecond, func(t *testing.T, _ jetstream.Options, js natsjs.JetStream) {
			setMaxAckPending(t, js, 1)
			eventually(t, "whoever goes on lifts the limit", func() bool { return maxAckPending(t, js) == limit })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newBroker(t, true)
			js := manager(t, s)
			o := s.options()
			o.Config.AckWait = tt.ackWait
			goesOn := open(t, o)
			goesOn.LookEvery(100 * time.Millisecond)
			r := subscribe(t, goesOn, sub, never)
			publish(t, goesOn.Topic(bus.Topic{Name: name}), newEvent(t, "e", nil))
			eventually(t, "the event", func() bool { return r.has("e") })
			tt.ends(t, o, js)
		})
	}
}

// What takes no longer than a look after the other is left alone, whatever was seen before nothing came for a while.
func TestALimitOfWhoeverStillGathersStays(t *testing.T) {
	t.Parallel()
	const name, stream, limit = "openfunction.test.es.ends", "openfunction-events", 8
	sub := bus.Subscription{Name: "s", Topics: []string{name}, MaxInFlight: limit, Ordered: true, Grace: time.Millisecond}
	s := newBroker(t, true)
	js := manager(t, s)
	o := s.options()
	b := open(t, o) // its own looks come too late for this test
	subscribe(t, b, sub, nil)
	look := b.Looks(t.Context(), sub, stream)
	for _, step := range []struct {
		what      string
		set       int // if not 0, what another process does before
		moves     bool
		wantLimit int
	}{
		{"another process gathers", 1, true, 1},
		{"it has ended", limit, false, limit},
		{"a third one gathers, and nothing comes", 1, false, 1},
		{"it still gathers", 0, true, 1},
		{"it was killed", 0, true, limit},
		{"a fourth one gathers", 1, true, 1},
	} {
		if step.set != 0 {
			setMaxAckPending(t, js, step.set)
		}
		look(step.moves)
		if got := maxAckPending(t, js); got != step.wantLimit {
			t.Errorf("%s: %d events may be under way, want %d", step.what, got, step.wantLimit)
		}
	}
}

func setMaxAckPending(t *testing.T, js natsjs.JetStream, n int) {
	t.Helper()
	c, err := js.Consumer(t.Context(), "openfunction-events", "s")
	if err != nil {
		t.Fatal(err)
	}
	config := c.CachedInfo().Config
	config.MaxAckPending = n
	if _, err := js.UpdateConsumer(t.Context(), "openfunction-events", config); err != nil {
		t.Fatal(err)
	}
}

// maxAckPending is how many events the server sends to s at most before one is done.
func maxAckPending(t *testing.T, js natsjs.JetStream) int {
	t.Helper()
	c, err := js.Consumer(t.Context(), "openfunction-events", "s")
	if err != nil {
		t.Fatal(err)
	}
	return c.CachedInfo().Config.MaxAckPending
}
