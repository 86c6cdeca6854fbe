package bustest

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

// recorder is a running subscription and what it received.
type recorder struct {
	h      *harness
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // valid once ended is closed

	mu       sync.Mutex
	messages []*bus.Message
	ready    error
	asked    bool
}

// subscribe runs s on b and waits until it is ready. Each message is kept and then handed to on; nil acknowledges at once.
func (h *harness) subscribe(b bus.Bus, s bus.Subscription, on func(*bus.Message)) *recorder {
	h.Helper()
	r := h.start(b, s, on)
	h.eventually("subscription "+s.Name+" is ready", r.isReady)
	return r
}

// start is subscribe that does not wait.
func (h *harness) start(b bus.Bus, s bus.Subscription, on func(*bus.Message)) *recorder {
	if on == nil {
		on = func(m *bus.Message) { m.Done(nil) }
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &recorder{h: h, cancel: cancel, ended: make(chan struct{})}
	s.Ready = func(err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.asked, r.ready = true, err
	}
	go func() {
		defer close(r.ended)
		r.err = b.Subscribe(ctx, s, func(m *bus.Message) {
			r.mu.Lock()
			r.messages = append(r.messages, m)
			r.mu.Unlock()
			on(m)
		})
	}()
	h.Cleanup(cancel)
	return r
}

func (r *recorder) isReady() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked && r.ready == nil
}

// stop ends the subscription and waits for it.
func (r *recorder) stop() {
	r.h.Helper()
	r.cancel()
	r.waitEnd()
}

func (r *recorder) waitEnd() {
	r.h.Helper()
	select {
	case <-r.ended:
		if r.err != nil {
			r.h.Fatalf("Subscribe() = %v, want nil", r.err)
		}
	case <-time.After(patience):
		r.h.Fatalf("Subscribe has not returned %s after its context was done", patience)
	}
}

func (r *recorder) hasEnded() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// got returns what was received so far.
func (r *recorder) got() []*bus.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

// ids returns the ids of what was received so far.
func (r *recorder) ids() []string {
	var ids []string
	for _, m := range r.got() {
		ids = append(ids, m.Event.ID())
	}
	return ids
}

// data returns the data of what was received so far.
func (r *recorder) data() []string {
	var list []string
	for _, m := range r.got() {
		list = append(list, string(m.Event.Data()))
	}
	return list
}

// count returns how often an event was received.
func (r *recorder) count(id string) int {
	n := 0
	for _, got := range r.ids() {
		if got == id {
			n++
		}
	}
	return n
}

// want waits until n messages were received.
func (r *recorder) want(n int) []*bus.Message {
	r.h.Helper()
	r.h.eventually(strconv.Itoa(n)+" messages are received", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.messages) >= n
	})
	return r.got()
}

// newEvent returns a small event. All have one partitionkey, since brokers with partitions keep the order of no others.
func newEvent(id string) *event.Event {
	e := spread(id)
	e.SetExtension("partitionkey", "bustest")
	return e
}

// spread returns a small event that goes to whichever partition a broker likes.
func spread(id string) *event.Event {
	var b event.Binary
	_ = b.Set("specversion", "1.0")
	_ = b.Set("id", id)
	_ = b.Set("source", "/bustest")
	_ = b.Set("type", "bustest.small")
	e, err := b.Event("text/plain", []byte("payload of "+id))
	if err != nil {
		panic(err)
	}
	return e
}

// publish handles e on the topic as a source does: it tries again while the bus is unavailable.
func (h *harness) publish(topic event.Handler, e *event.Event) {
	h.Helper()
	if err := publish(topic, e); err != nil {
		h.Fatalf("Handle(%s) = %v, want nil", e.ID(), err)
	}
}

func publish(topic event.Handler, e *event.Event) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := topic.Handle(ctx, e)
		var away *event.Unavailable
		if err == nil || !errors.As(err, &away) || ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (h *harness) publishAll(topic event.Handler, ids ...string) {
	h.Helper()
	for _, id := range ids {
		h.publish(topic, newEvent(id))
	}
}

func (h *harness) publishSpread(topic event.Handler, ids ...string) {
	h.Helper()
	for _, id := range ids {
		h.publish(topic, spread(id))
	}
}

// numbers returns prefix0, prefix1 and so on.
func numbers(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = prefix + strconv.Itoa(i)
	}
	return ids
}
