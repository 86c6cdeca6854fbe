package bustest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

// refusal bounds how long publishing may take to say that the broker is away.
const refusal = 8 * time.Second

// stop stops the broker, and starts it again at the end of the case if that did not happen.
func (h *harness) stop() (start func()) {
	h.Helper()
	var once sync.Once
	start = func() { once.Do(func() { h.f.Start(h.T) }) }
	h.Cleanup(start)
	h.f.Stop(h.T)
	return start
}

// refused checks that publishing fails as it must while the broker is away, and returns why.
func (h *harness) refused(topic event.Handler) error {
	h.Helper()
	begin := time.Now()
	err := topic.Handle(context.Background(), newEvent("refused"))
	var away *event.Unavailable
	if !errors.As(err, &away) {
		h.Fatalf("Handle while the broker is away = %v, want *event.Unavailable", err)
	}
	if away.Full {
		h.Errorf("Handle while the broker is away says that it is full: %v", err)
	}
	if took := time.Since(begin); took > refusal {
		h.Errorf("Handle while the broker is away took %s, want at most %s", took, refusal)
	}
	return err
}

func outage(h *harness) {
	b := h.bus()
	name := h.topic("e")
	r := h.subscribe(b, bus.Subscription{Name: h.name("s"), Topics: []string{name}}, nil)
	away := bus.Subscription{Name: h.name("away"), Topics: []string{name}}
	h.subscribe(b, away, nil).stop()
	topic := b.Topic(bus.Topic{Name: name})
	before := numbers("before-", 20)
	h.publishAll(topic, before...)
	r.want(len(before))

	start := h.stop()
	h.refused(topic)
	h.eventually("the bus says that it is not ready", func() bool { return b.Ready() != nil })
	h.eventually("the subscription says that it is not ready", func() bool { return !r.isReady() })
	start()

	h.eventually("the bus is ready again", func() bool { return b.Ready() == nil })
	h.eventually("the subscription is ready again", r.isReady)
	after := numbers("after-", 20)
	h.publishAll(topic, after...)
	h.receivesAll(after, r)
	// What was acknowledged before is still there for who was away.
	h.receivesAll(slices.Concat(before, after), h.subscribe(b, away, nil))
}

// receivesAll waits until recorders have each of ids at least once: a broker that was killed may deliver again.
func (h *harness) receivesAll(ids []string, recorders ...*recorder) {
	h.Helper()
	h.eventually("every event that was taken is received", func() bool {
		got := map[string]bool{}
		for _, r := range recorders {
			for _, id := range r.ids() {
				got[id] = true
			}
		}
		return !slices.ContainsFunc(ids, func(id string) bool { return !got[id] })
	})
}

func startsFirst(h *harness) {
	start := h.stop()
	b := h.bus()
	name := h.topic("e")
	topic := b.Topic(bus.Topic{Name: name})
	h.refused(topic)
	if err := b.Ready(); err == nil {
		h.Errorf("Ready while the broker is away = nil, want an error")
	}
	r := h.start(b, bus.Subscription{Name: h.name("s"), Topics: []string{name}}, nil)
	start()
	h.eventually("the subscription is ready", r.isReady)
	h.publishAll(topic, "e1")
	h.receivesAll([]string{"e1"}, r)

	// One that ends while the broker is away ends all the same.
	start = h.stop()
	h.refused(topic)
	r.stop()
	if err := b.Close(); err != nil {
		h.Errorf("Close while the broker is away = %v, want nil", err)
	}
	start()
}

func heldOverRestart(h *harness) {
	b := h.bus()
	name := h.topic("e")
	s := bus.Subscription{Name: h.name("s"), Topics: []string{name}}
	r := h.subscribe(b, s, func(m *bus.Message) {
		if m.Event.ID() != "held" {
			m.Done(nil)
		}
	})
	topic := b.Topic(bus.Topic{Name: name})
	h.publishAll(topic, "held")
	m := r.want(1)[0]
	start := h.stop()
	h.eventually("the subscription says that it is not ready", func() bool { return !r.isReady() })
	start()
	h.eventually("the subscription is ready again", r.isReady)
	h.publishAll(topic, "next")
	h.receivesAll([]string{"next"}, r)
	h.never("a message that is held comes again", 3*h.f.AckWait, func() bool { return r.count("held") > 1 })
	m.Done(nil)
	h.never("a message that is done comes again", 2*h.f.AckWait, func() bool { return r.count("held") > 1 })
	r.stop()
	again := h.subscribe(b, s, nil)
	h.publishAll(topic, "last")
	h.receivesAll([]string{"last"}, again)
	if again.count("held") > 0 {
		h.Errorf("a message that was done after the restart comes again")
	}
}

func outageUnderLoad(h *harness) {
	const publishers, events, rounds = 4, 250, 3
	b := h.bus()
	name := h.topic("e")
	r := h.subscribe(b, bus.Subscription{Name: h.name("s"), Topics: []string{name}}, nil)
	topic := b.Topic(bus.Topic{Name: name})
	for round := range rounds {
		ids := numbers("round-"+string(rune('a'+round))+"-", publishers*events)
		half := make(chan struct{})
		var wg sync.WaitGroup
		for p := range publishers {
			wg.Go(func() {
				for i := range events {
					id := ids[p*events+i]
					if err := publish(topic, spread(id)); err != nil {
						h.Errorf("Handle(%s) = %v, want nil in the end", id, err)
					}
					if p == 0 && i == events/3 {
						close(half)
					}
				}
			})
		}
		<-half
		h.stop()()
		wg.Wait()
		h.receivesAll(ids, r)
	}
}

// longOutage keeps publishing while the broker is away for long, which is longer than what clients and servers remember of each other.
func longOutage(h *harness) {
	const publishers, events = 4, 100
	b := h.bus()
	name := h.topic("e")
	r := h.subscribe(b, bus.Subscription{Name: h.name("s"), Topics: []string{name}}, nil)
	topic := b.Topic(bus.Topic{Name: name})
	ids := numbers("e", publishers*events)
	half := make(chan struct{})
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range events {
				id := ids[p*events+i]
				err := publish(topic, spread(id))
				for tries := 0; err != nil && tries < 3; tries++ { // each as long as the suite is patient
					err = publish(topic, spread(id))
				}
				if err != nil {
					h.Errorf("Handle(%s) = %v, want nil in the end", id, err)
				}
				if p == 0 && i == events/3 {
					close(half)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	<-half
	start := h.stop()
	h.eventually("the bus says that it is not ready", func() bool { return b.Ready() != nil })
	h.never("the bus is ready while the broker is away", h.f.Outage, func() bool { return b.Ready() == nil })
	start()
	wg.Wait()
	h.receivesAll(ids, r)
	h.eventually("the bus and the subscription are ready again", func() bool { return b.Ready() == nil && r.isReady() })
}
