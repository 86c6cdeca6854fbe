package bustest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/gateway/bus"
)

func orderIsKept(h *harness) {
	b := h.bus()
	one, two := h.topic("one"), h.topic("two")
	r1 := h.subscribe(b, bus.Subscription{Name: h.name("s1"), Topics: []string{one}}, nil)
	r2 := h.subscribe(b, bus.Subscription{Name: h.name("s2"), Topics: []string{two}}, nil)
	ids := numbers("e", 300)
	t1, t2 := b.Topic(bus.Topic{Name: one}), b.Topic(bus.Topic{Name: two})
	for _, id := range ids {
		h.publishAll(t1, id)
		h.publishAll(t2, id)
	}
	for _, r := range []*recorder{r1, r2} {
		h.checkStored(r.want(len(ids)))
		if diff := cmp.Diff(ids, r.ids()); diff != "" {
			h.Errorf("order differs (-published +received):\n%s", diff)
		}
	}
}

// orderAcrossProcesses ends a process in order, with what failed and what nobody dealt with, and then one at once.
func orderAcrossProcesses(h *harness) {
	const limit = 8
	name := h.topic("e")
	s := bus.Subscription{Name: h.name("s"), Topics: []string{name}, MaxInFlight: limit, Grace: 100 * time.Millisecond, Ordered: true}
	ids := numbers("e", 3*limit)
	first := h.f.New(h.T)
	r := h.subscribe(first, s, func(*bus.Message) {})
	h.publishAll(first.Topic(bus.Topic{Name: name}), ids...)
	messages := r.want(limit)
	messages[0].Done(nil)
	messages[2].Done(nil)
	r.want(limit + 2)
	r.cancel()
	messages[5].Done(errAgain)
	messages[3].Done(errAgain)
	r.waitEnd()
	want := slices.Concat(ids[1:2], ids[3:])
	r = h.subscribe(first, s, func(*bus.Message) {})
	r.want(limit)
	if err := first.Close(); err != nil {
		h.Fatalf("Close() = %v, want nil", err)
	}
	r.waitEnd()
	again := h.subscribe(h.bus(), s, nil)
	again.want(len(want))
	for _, got := range [][]string{r.ids(), again.ids()} {
		if diff := cmp.Diff(want[:min(len(got), len(want))], got); diff != "" {
			h.Errorf("order differs (-published +received):\n%s", diff)
		}
	}
}

func twoSubscriptions(h *harness) {
	h.several()
	b1, b2 := h.bus(), h.bus()
	name := h.topic("e")
	recorders := []*recorder{
		h.subscribe(b1, bus.Subscription{Name: h.name("a"), Topics: []string{name}}, nil),
		h.subscribe(b1, bus.Subscription{Name: h.name("b"), Topics: []string{name}}, nil),
		h.subscribe(b2, bus.Subscription{Name: h.name("c"), Topics: []string{name}}, nil),
	}
	ids := numbers("e", 50)
	h.publishAll(b2.Topic(bus.Topic{Name: name}), ids...)
	for _, r := range recorders {
		r.want(len(ids))
		if diff := cmp.Diff(ids, r.ids()); diff != "" {
			h.Errorf("received differs (-published +received):\n%s", diff)
		}
	}
}

func membersShare(h *harness) {
	h.several()
	b1, b2, publisher := h.bus(), h.bus(), h.bus()
	name := h.topic("e")
	s := bus.Subscription{Name: h.name("s"), Topics: []string{name}, MaxInFlight: 8}
	slowly := func(m *bus.Message) {
		time.Sleep(time.Millisecond) // so that there is something left for the other member
		m.Done(nil)
	}
	r1, r2 := h.subscribe(b1, s, slowly), h.subscribe(b2, s, slowly)
	topic := publisher.Topic(bus.Topic{Name: name})
	ids := numbers("e", 400)
	h.publishSpread(topic, ids[:200]...)
	h.eventually("all is received once", func() bool { return len(r1.ids())+len(r2.ids()) >= 200 })
	if len(r1.ids()) == 0 || len(r2.ids()) == 0 {
		h.Errorf("members received %d and %d, want both to have a part", len(r1.ids()), len(r2.ids()))
	}
	r1.stop() // the other member carries on alone
	h.publishSpread(topic, ids[200:]...)
	h.eventually("all is received once", func() bool { return len(r1.ids())+len(r2.ids()) >= len(ids) })
	h.eachOnce(ids, append(r1.ids(), r2.ids()...))
}

// eachOnce fails the case unless got holds each of ids exactly once.
func (h *harness) eachOnce(ids, got []string) {
	h.Helper()
	counts := map[string]int{}
	for _, id := range got {
		counts[id]++
	}
	for _, id := range ids {
		if counts[id] != 1 {
			h.Errorf("%s was received %d times, want once", id, counts[id])
		}
		delete(counts, id)
	}
	for id := range counts {
		h.Errorf("%s was received, want nothing else", id)
	}
}

func severalTopics(h *harness) {
	b := h.bus()
	// The last is a subscriber's own topic, which does not look like a source's.
	names := []string{h.topic("one"), h.topic("two"), fmt.Sprintf("metrics-%d-%d", process, h.id)}
	r := h.subscribe(b, bus.Subscription{Name: h.name("s"), Topics: names}, nil)
	want := map[string]string{}
	for _, id := range numbers("e", 30) {
		name := names[len(want)%len(names)]
		want[id] = name
		h.publishAll(b.Topic(bus.Topic{Name: name}), id)
	}
	h.publishAll(b.Topic(bus.Topic{Name: h.topic("other")}), "other")
	got := map[string]string{}
	for _, m := range r.want(len(want)) {
		got[m.Event.ID()] = m.Topic
	}
	if diff := cmp.Diff(want, got); diff != "" {
		h.Errorf("topics differ (-published +received):\n%s", diff)
	}
}

func manyPublishers(h *harness) {
	const publishers, events = 64, 5000
	b := h.bus()
	name := h.topic("e")
	r := h.subscribe(b, bus.Subscription{Name: h.name("s"), Topics: []string{name}}, nil)
	topic := b.Topic(bus.Topic{Name: name})
	ids := numbers("e", events)
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := p; i < events; i += publishers {
				if err := publish(topic, spread(ids[i])); err != nil {
					h.Errorf("Handle(%s) = %v, want nil", ids[i], err)
				}
			}
		})
	}
	wg.Wait()
	r.want(events)
	h.eachOnce(ids, r.ids())
}

func beginsAtCreation(h *harness) {
	b := h.bus()
	name := h.topic("e")
	topic := b.Topic(bus.Topic{Name: name})
	// Another subscription makes the broker keep what comes before.
	h.subscribe(b, bus.Subscription{Name: h.name("keeper"), Topics: []string{name}}, func(*bus.Message) {})
	h.publishAll(topic, "before-1", "before-2")
	r := h.subscribe(b, bus.Subscription{Name: h.name("s"), Topics: []string{name}}, nil)
	h.publishAll(topic, "after-1", "after-2")
	r.want(2)
	if diff := cmp.Diff([]string{"after-1", "after-2"}, r.ids()); diff != "" {
		h.Errorf("received differs (-want +got):\n%s", diff)
	}
}

func remembers(h *harness) {
	b := h.bus()
	name := h.topic("e")
	topic := b.Topic(bus.Topic{Name: name})
	s := bus.Subscription{Name: h.name("s"), Topics: []string{name}}
	first := h.subscribe(b, s, nil)
	h.publishAll(topic, "e1", "e2")
	first.want(2)
	first.stop()
	h.publishAll(topic, "e3", "e4") // nobody listens, the subscription exists
	if !h.f.Alone {
		b = h.bus()
	}
	second := h.subscribe(b, s, nil)
	h.publishAll(topic, "e5")
	second.want(3)
	if diff := cmp.Diff([]string{"e3", "e4", "e5"}, second.ids()); diff != "" {
		h.Errorf("received differs (-want +got):\n%s", diff)
	}
}

func changedTopics(h *harness) {
	b := h.bus()
	one, two := h.topic("one"), h.topic("two")
	s := bus.Subscription{Name: h.name("s"), Topics: []string{one}}
	h.subscribe(b, s, nil).stop()
	h.publishAll(b.Topic(bus.Topic{Name: one}), "while-away")
	s.Topics = []string{one, two}
	r := h.subscribe(b, s, nil)
	h.publishAll(b.Topic(bus.Topic{Name: two}), "on-two")
	r.want(2)
	h.eachOnce([]string{"while-away", "on-two"}, r.ids())
	r.stop()
	s.Topics = []string{two}
	r = h.subscribe(b, s, nil)
	h.publishAll(b.Topic(bus.Topic{Name: one}), "not-any-more")
	h.publishAll(b.Topic(bus.Topic{Name: two}), "still")
	r.want(1)
	h.eachOnce([]string{"still"}, r.ids())
}
