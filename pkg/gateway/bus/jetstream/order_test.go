package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/gateway/bus"
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
