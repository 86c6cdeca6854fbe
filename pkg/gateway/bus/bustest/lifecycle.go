package bustest

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/gateway/bus"
)

var errAgain = errors.New("try again")

func redelivery(h *harness) {
	b := h.bus()
	name := h.topic("e")
	var failures atomic.Int32
	r := h.subscribe(b, bus.Subscription{Name: h.name("s"), Topics: []string{name}}, func(m *bus.Message) {
		if m.Event.ID() == "fails" && failures.Add(1) <= 2 {
			m.Done(errAgain)
			return
		}
		m.Done(nil)
	})
	h.publishAll(b.Topic(bus.Topic{Name: name}), "fails", "works")
	h.eventually("the event that failed twice comes a third time", func() bool { return r.count("fails") == 3 })
	h.never("an acknowledged message comes again", 2*h.f.AckWait, func() bool { return r.count("fails") > 3 || r.count("works") > 1 })
	var first *bus.Message
	for _, m := range r.got() {
		if m.Event.ID() != "fails" {
			continue
		}
		if first == nil {
			first = m
		}
		if !m.Stored.Equal(first.Stored) || m.Sequence != first.Sequence {
			h.Errorf("stored %s, sequence %d when it came again, want %s and %d as before", m.Stored, m.Sequence, first.Stored, first.Sequence)
		}
	}
}

func nothingBeforeDone(h *harness) {
	b := h.f.New(h.T)
	name := h.topic("e")
	s := bus.Subscription{Name: h.name("s"), Topics: []string{name}}
	r := h.subscribe(b, s, func(m *bus.Message) {
		if m.Event.ID() == "done" {
			m.Done(nil)
		}
	})
	h.publishAll(b.Topic(bus.Topic{Name: name}), "not-1", "done", "not-2")
	r.want(3)
	if err := b.Close(); err != nil {
		h.Fatalf("Close() = %v, want nil", err)
	}
	r.waitEnd()
	again := h.subscribe(h.bus(), s, nil)
	again.want(2)
	h.never("what was acknowledged comes again", h.f.AckWait/2, func() bool { return again.count("done") > 0 })
	h.eachOnce([]string{"not-1", "not-2"}, again.ids())
}

func maxInFlight(h *harness) {
	const limit = 4
	b := h.bus()
	name := h.topic("e")
	ids := numbers("e", 20)
	r := h.subscribe(b, bus.Subscription{Name: h.name("s"), Topics: []string{name}, MaxInFlight: limit}, func(*bus.Message) {})
	h.publishAll(b.Topic(bus.Topic{Name: name}), ids...)
	for n := limit; n < len(ids); n++ {
		r.want(n)
		if n == limit {
			h.never("more than the limit is in flight", h.f.AckWait+h.f.AckWait/2, func() bool { return len(r.ids()) > limit })
		}
		if got := len(r.ids()); got > n {
			h.Fatalf("%d messages were received and %d are done, want at most %d in flight", got, n-limit, limit)
		}
		r.got()[n-limit].Done(nil)
	}
	r.want(len(ids))
	for _, m := range r.got() {
		m.Done(nil)
	}
	h.eachOnce(ids, r.ids())
}

func held(h *harness) {
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
	r.want(1)
	other := &recorder{}
	if !h.f.Alone { // another member must not get it either
		other = h.subscribe(h.bus(), s, nil)
	}
	h.never("a message that is held comes again", 3*h.f.AckWait, func() bool { return r.count("held") > 1 || other.count("held") > 0 })
	r.got()[0].Done(nil)
	h.publishAll(topic, "next")
	h.eventually("the next message is received", func() bool { return r.count("next")+other.count("next") == 1 })
	h.never("a message that is done comes again", h.f.AckWait+h.f.AckWait/2, func() bool { return r.count("held") > 1 || other.count("held") > 0 })
}

func doneTwice(h *harness) {
	b := h.bus()
	name := h.topic("e")
	r := h.subscribe(b, bus.Subscription{Name: h.name("s"), Topics: []string{name}}, func(m *bus.Message) {
		m.Done(nil)
		m.Done(errAgain)
	})
	h.publishAll(b.Topic(bus.Topic{Name: name}), "e1", "e2")
	r.want(2)
	h.never("a message comes again after Done(nil), Done(error)", h.f.AckWait+h.f.AckWait/2, func() bool { return len(r.ids()) > 2 })
}

func drains(h *harness) {
	b := h.bus()
	name := h.topic("e")
	s := bus.Subscription{Name: h.name("s"), Topics: []string{name}, Grace: patience}
	r := h.subscribe(b, s, func(*bus.Message) {})
	topic := b.Topic(bus.Topic{Name: name})
	h.publishAll(topic, "in-flight")
	m := r.want(1)[0]
	r.cancel()
	h.never("the subscription ends while a message is in flight", h.f.AckWait+h.f.AckWait/2, r.hasEnded)
	h.publishAll(topic, "later")
	m.Done(nil)
	r.waitEnd()
	again := h.subscribe(b, s, nil)
	again.want(1)
	h.eachOnce([]string{"in-flight", "later"}, append(r.ids(), again.ids()...))
}

func graceExpires(h *harness) {
	b := h.bus()
	name := h.topic("e")
	s := bus.Subscription{Name: h.name("s"), Topics: []string{name}, Grace: 200 * time.Millisecond}
	r := h.subscribe(b, s, func(*bus.Message) {})
	h.publishAll(b.Topic(bus.Topic{Name: name}), "stuck")
	r.want(1)
	begin := time.Now()
	r.stop()
	if took := time.Since(begin); took > 5*time.Second {
		h.Errorf("Subscribe returned after %s, want about its grace, %s", took, s.Grace)
	}
	again := h.subscribe(b, s, nil)
	again.want(1)
	h.eachOnce([]string{"stuck"}, again.ids())
}

func closeEnds(h *harness) {
	b := h.f.New(h.T)
	name := h.topic("e")
	r := h.subscribe(b, bus.Subscription{Name: h.name("s"), Topics: []string{name}}, nil)
	topic := b.Topic(bus.Topic{Name: name})
	h.publishAll(topic, "e1")
	r.want(1)
	for range 2 {
		if err := b.Close(); err != nil {
			h.Errorf("Close() = %v, want nil, also the second time", err)
		}
	}
	r.waitEnd()
	if err := topic.Handle(context.Background(), newEvent("late")); err == nil {
		h.Errorf("Handle after Close = nil, want an error")
	}
	if err := b.Ready(); err == nil {
		h.Errorf("Ready after Close = nil, want an error")
	}
}

func unsubscribe(h *harness) {
	b := h.bus()
	name := h.topic("e")
	s := bus.Subscription{Name: h.name("s"), Topics: []string{name}}
	h.subscribe(b, s, nil).stop()
	topic := b.Topic(bus.Topic{Name: name})
	h.publishAll(topic, "forgotten")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range 2 {
		if err := b.Unsubscribe(ctx, s); err != nil {
			h.Fatalf("Unsubscribe() = %v, want nil, also when there is none", err)
		}
	}
	r := h.subscribe(b, s, nil)
	h.publishAll(topic, "new")
	r.want(1)
	if diff := cmp.Diff([]string{"new"}, r.ids()); diff != "" {
		h.Errorf("received differs (-want +got):\n%s", diff)
	}
}

func invalid(h *harness) {
	b := h.bus()
	for _, s := range []bus.Subscription{
		{Name: h.name("no-topics")},
		{Topics: []string{h.topic("no-name")}},
		{Name: "dots.and spaces", Topics: []string{h.topic("e")}},
		{Name: strings.Repeat("x", 201), Topics: []string{h.topic("e")}},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := b.Subscribe(ctx, s, func(*bus.Message) {}); err == nil {
			h.Errorf("Subscribe(%+v) = nil, want an error", s)
		}
		cancel()
	}
}

func handleCancelled(h *harness) {
	b := h.bus()
	topic := b.Topic(bus.Topic{Name: h.topic("e")})
	h.publishAll(topic, "first")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := topic.Handle(ctx, newEvent("cancelled")); !errors.Is(err, context.Canceled) {
		h.Errorf("Handle with a context that is done = %v, want context.Canceled", err)
	}
	h.publishAll(topic, "last")
}

func noLeak(h *harness) {
	name := h.topic("e")
	s := bus.Subscription{Name: h.name("s"), Topics: []string{name}}
	label, running := h.name("leak"), 0
	cycle := func(prefix string) {
		b := h.f.New(h.T)
		r := h.subscribe(b, s, nil)
		h.publishAll(b.Topic(bus.Topic{Name: name}), numbers(prefix, 10)...)
		r.want(1)
		running = goroutines(label)
		r.stop()
		second := h.subscribe(b, s, nil) // ended by Close
		if err := b.Close(); err != nil {
			h.Errorf("Close() = %v, want nil", err)
		}
		second.waitEnd()
	}
	pprof.Do(context.Background(), pprof.Labels("bustest", label), func(context.Context) {
		cycle("a") // what the broker keeps, it has from now on
		before := settled(label)
		if running <= before {
			h.Fatalf("%d goroutines of a subscription that runs, %d after it: they are not counted", running, before)
		}
		cycle("b")
		cycle("c")
		deadline := time.Now().Add(patience)
		for goroutines(label) > before+1 {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<20)
				h.Fatalf("%d goroutines after Close, %d before:\n%s", goroutines(label), before, buf[:runtime.Stack(buf, true)])
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// goroutines counts those that have the label. They have it from who started them, so that what else the process does is not counted.
func goroutines(label string) int {
	var profile bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&profile, 1) // a buffer takes everything
	total, alike := 0, 0
	for line := range strings.Lines(profile.String()) {
		if n, _, ok := strings.Cut(line, " @ "); ok {
			alike, _ = strconv.Atoi(n)
		} else if strings.HasPrefix(line, "# labels:") && strings.Contains(line, strconv.Quote(label)) {
			total += alike
		}
	}
	return total
}

// settled is the number of goroutines once it has not fallen for a while.
func settled(label string) int {
	lowest, since := goroutines(label), time.Now()
	for time.Since(since) < time.Second {
		time.Sleep(10 * time.Millisecond)
		if n := goroutines(label); n < lowest {
			lowest, since = n, time.Now()
		}
	}
	return lowest
}
