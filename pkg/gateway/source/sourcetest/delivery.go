package sourcetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openfunction/events/pkg/event"
)

// errAgain is what a handler says that does not take an event now.
var errAgain = errors.New("not now")

// triedAgain lets every tenth event fail twice.
func triedAgain(h *harness) {
	var mu sync.Mutex
	tries := map[string]int{}
	ids := map[string]map[string]bool{}
	r := h.read(h.process("a"), func(_ context.Context, e *event.Event) error {
		mu.Lock()
		defer mu.Unlock()
		data := string(e.Data())
		tries[data]++
		if ids[data] == nil {
			ids[data] = map[string]bool{}
		}
		ids[data][e.ID()] = true
		if strings.HasSuffix(data, "0") && tries[data] <= 2 {
			return errAgain
		}
		return nil
	})
	want := numbers("m", 50)
	h.produce(want...)
	h.await(want, r)
	mu.Lock()
	defer mu.Unlock()
	for data, all := range ids {
		if len(all) > 1 {
			h.Errorf("%s came with %d ids, want that it keeps its own", data, len(all))
		}
	}
}

// byTurns lets every event fail once, as a bus does that is at its limits.
func byTurns(h *harness) {
	var mu sync.Mutex
	tried := map[string]bool{}
	began := time.Now()
	r := h.read(h.process("a"), func(_ context.Context, e *event.Event) error {
		mu.Lock()
		defer mu.Unlock()
		if data := string(e.Data()); !tried[data] {
			tried[data] = true
			return errAgain
		}
		return nil
	})
	all := numbers("m", 5)
	for i, data := range all {
		h.produce(data)
		h.await(all[:i+1], r)
	}
	most := 1 + int(time.Since(began)/(30*time.Second))
	for _, says := range []string{"event is not taken, trying again", "events are taken again"} {
		if got := r.logs.FilterMessage(says).Len(); got > most {
			h.Errorf("it was said %d times that %s, want %d at the most", got, says, most)
		}
	}
}

// permanent lets one event fail for good. What becomes of it is the handler's affair: a dead letter.
func permanent(h *harness) {
	r := h.read(h.process("a"), func(_ context.Context, e *event.Event) error {
		if string(e.Data()) == "poison" {
			return event.Permanent(errors.New("no sink will ever take it"))
		}
		return nil
	})
	h.produce("poison")
	want := numbers("m", 200)
	h.produce(want...)
	h.await(want, r)
}

// deadLetterAway is an event that was refused for good and whose dead letter is not taken now: the error is both.
func deadLetterAway(h *harness) {
	var mu sync.Mutex
	tries := 0
	r := h.read(h.process("a"), func(context.Context, *event.Event) error {
		mu.Lock()
		defer mu.Unlock()
		if tries++; tries <= 2 {
			return errors.Join(&event.Unavailable{What: "the bus"}, event.Permanent(errors.New("no sink will ever take it")))
		}
		return nil
	})
	h.produce("letter")
	h.await([]string{"letter"}, r)
}

// comesToNext ends a source, in the proper way, that has taken some and not others. The next one has the same name.
func comesToNext(h *harness) {
	first := h.read(h.process("a"), func(_ context.Context, e *event.Event) error {
		if strings.HasSuffix(string(e.Data()), "5") {
			return errAgain
		}
		return nil
	})
	want := numbers("m", 30)
	h.produce(want...)
	if h.f.Ordered {
		h.await(want[:5], first) // the others wait
	} else {
		h.await(slices.DeleteFunc(slices.Clone(want), func(d string) bool { return strings.HasSuffix(d, "5") }), first)
	}
	first.stop()
	second := h.read(h.process("a"), nil)
	h.await(want, first, second)
	h.sameIDs(first, second)
}

// killed ends a process in the midst of its work: its handlers do not return before it is dead.
func killed(h *harness) {
	want := numbers("m", 40)
	began, dead := make(chan struct{}), make(chan struct{})
	defer close(dead)
	var once sync.Once
	first := h.read(h.process("a"), func(_ context.Context, e *event.Event) error {
		if string(e.Data()) < "m2" { // m0, m1 and m10 to m19
			return nil
		}
		once.Do(func() { close(began) })
		<-dead
		return errAgain
	})
	h.produce(want...)
	h.eventually("an event is in flight", func() bool {
		select {
		case <-began:
			return true
		default:
			return false
		}
	})
	first.kill()
	second := h.read(h.process("b"), nil)
	h.await(want, first, second)
	h.sameIDs(first, second)
}

// sameIDs checks that what both took has one id.
func (h *harness) sameIDs(readers ...*reader) {
	h.Helper()
	if !h.f.Positions {
		return
	}
	ids := map[string]string{}
	for _, r := range readers {
		for _, e := range r.events() {
			data := string(e.Data())
			if id, again := ids[data]; again && id != e.ID() {
				h.Errorf("%s came with the ids %s and %s", data, id, e.ID())
			}
			ids[data] = e.ID()
		}
	}
}

func writtenMeanwhile(h *harness) {
	first := h.read(h.process("a"), nil)
	h.produce("before")
	h.await([]string{"before"}, first)
	first.stop()
	want := numbers("meanwhile", 20)
	h.produce(want...)
	h.await(want, h.read(h.process("b"), nil))
}

// share has two processes read at once, and one of them end.
func share(h *harness) {
	a := h.read(h.process("a"), nil)
	b := h.read(h.process("b"), nil)
	first := numbers("first", 200)
	h.produce(first...)
	h.await(first, a, b)
	second := numbers("second", 200)
	h.produce(second[:100]...)
	a.stop()
	h.produce(second[100:]...)
	h.await(second, a, b)
}
