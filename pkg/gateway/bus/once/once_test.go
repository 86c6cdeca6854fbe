package once

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/pkg/gateway/bus/memory"
)

// What a bus does it does with duplicates left out too.
func TestConformance(t *testing.T) {
	broker := memory.New()
	bustest.Run(t, bustest.Fixture{
		New:     func(testing.TB) bus.Bus { return New(broker.Connect()) },
		AckWait: 200 * time.Millisecond,
	})
}

func message(topic, kind, source, id string, sequence uint64, stored time.Time) *bus.Message {
	e := cloudevents.New()
	e.SetID(id)
	e.SetSource(source)
	e.SetType("test")
	if kind != "" {
		e.SetExtension(event.KindExtension, kind)
	}
	return &bus.Message{Event: &e, Topic: topic, Sequence: sequence, Stored: stored}
}

func TestWhatIsARepeat(t *testing.T) {
	at := time.Now()
	for _, tt := range []struct {
		name string
		m    *bus.Message
		want bool
	}{
		{"stored again", message("t", "k", "/s", "1", 2, at), true},
		{"stored again just within the window", message("t", "k", "/s", "1", 2, at.Add(window-1)), true},
		{"stored before what came first, on another partition", message("t", "k", "/s", "1", 2, at.Add(1-window)), true},
		{"stored again after the window", message("t", "k", "/s", "1", 2, at.Add(window)), false},
		{"the same one, sent again by the broker", message("t", "k", "/s", "1", 1, at), false},
		{"another topic", message("u", "k", "/s", "1", 2, at), false},
		{"another kind", message("t", "l", "/s", "1", 2, at), false},
		{"another source", message("t", "k", "/r", "1", 2, at), false},
		{"another id", message("t", "k", "/s", "2", 2, at), false},
		{"the same text, divided otherwise", message("t", "k/", "s", "1", 2, at), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRecent(10)
			if r.isRepeat(message("t", "k", "/s", "1", 1, at)) {
				t.Fatal("the first is a repeat")
			}
			if got := r.isRepeat(tt.m); got != tt.want {
				t.Errorf("isRepeat() = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestTheLatestAreRemembered(t *testing.T) {
	const size = 4
	r, at := newRecent(size), time.Now()
	for n := range uint64(3 * size) {
		r.isRepeat(message("t", "", "/s", fmt.Sprint(n), n, at))
	}
	if len(r.order) != size || len(r.index) != size {
		t.Errorf("%d and %d are remembered, want %d", len(r.order), len(r.index), size)
	}
	for n := uint64(2 * size); n < 3*size; n++ {
		if !r.isRepeat(message("t", "", "/s", fmt.Sprint(n), 100, at)) {
			t.Errorf("event %d of %d is forgotten", n, 3*size)
		}
	}
	if r.isRepeat(message("t", "", "/s", fmt.Sprint(2*size-1), 100, at)) {
		t.Errorf("event %d of %d is remembered, want only the last %d", 2*size-1, 3*size, size)
	}
}

// TestAnEventIsHandedOverOnce publishes each event several times. The first publication fails once and comes again; two subscriptions each get
// every event; and nothing is left on the bus.
func TestAnEventIsHandedOverOnce(t *testing.T) {
	b := New(memory.New())
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	const events, times = 100, 3
	var mu sync.Mutex
	attempts, taken := map[string]int{}, map[string]int{}
	for _, name := range []string{"x", "y"} {
		ready := make(chan struct{}, 1)
		running.Go(func() {
			_ = b.Subscribe(ctx, bus.Subscription{Name: name, Topics: []string{"t"}, Ready: func(err error) {
				if err == nil {
					ready <- struct{}{}
				}
			}}, func(m *bus.Message) {
				mu.Lock()
				defer mu.Unlock()
				id := name + m.Event.ID()
				if attempts[id]++; attempts[id] == 1 {
					m.Done(errors.New("not now"))
					return
				}
				taken[id]++
				m.Done(nil)
			})
		})
		<-ready
	}
	for n := range events {
		for range times {
			if err := b.Topic(bus.Topic{Name: "t"}).Handle(ctx, message("", "", "/s", fmt.Sprint(n), 0, time.Time{}).Event); err != nil {
				t.Fatal(err)
			}
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		mu.Lock()
		got := len(taken)
		mu.Unlock()
		if got == 2*events {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d events were taken, want %d", got, 2*events)
		}
		time.Sleep(time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	for id, n := range taken {
		if n != 1 || attempts[id] != 2 {
			t.Errorf("%s: taken %d times in %d attempts, want once in 2", id, n, attempts[id])
		}
	}
}

func BenchmarkRecent(b *testing.B) {
	r, at := newRecent(remembered), time.Now()
	ms := make([]*bus.Message, 1<<18)
	for n := range ms {
		ms[n] = message("openfunction.default.es.event", "", "/default/es/event", fmt.Sprint(n), uint64(n), at)
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		r.isRepeat(ms[n%len(ms)])
	}
}
