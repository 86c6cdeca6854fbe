package jetstream_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
)

// Publications do not wait for each other's acknowledgements, but there is a bound on those that wait. The stream stores and does not
// acknowledge, so what it has is what waits.
func TestPublicationsArePipelinedWithinAWindow(t *testing.T) {
	s := newBroker(t, false)
	stream, err := manager(t, s).CreateStream(t.Context(), natsjs.StreamConfig{Name: "silent", Subjects: []string{"silent"}, NoAck: true})
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, s.options())
	publish(t, b.Topic(bus.Topic{Name: "ready"}), newEvent(t, "e", nil))
	for range 5 {
		if err := stream.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
		stored, inTime := outstanding(t, b, stream)
		if inTime && stored != jetstream.Window {
			t.Fatalf("%d publications wait at once, want %d", stored, jetstream.Window)
		}
		if inTime {
			return
		}
	}
	t.Fatalf("five times, a publication was given up before %d waited at once", jetstream.Window)
}

// outstanding publishes more than the window and returns how many the stream has got a moment after the window was full, and whether that
// was before one was given up, after which another takes its place.
func outstanding(t *testing.T, b *jetstream.Bus, stream natsjs.Stream) (stored uint64, inTime bool) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var ended atomic.Bool
	topic := b.Topic(bus.Topic{Name: "silent"})
	began := time.Now()
	for i := range jetstream.Window + 500 {
		e := newEvent(t, strconv.FormatInt(began.UnixNano(), 36)+"-"+strconv.Itoa(i), nil)
		wg.Go(func() {
			_ = topic.Handle(ctx, e)
			ended.Store(true)
		})
	}
	var full time.Time
	for ; !ended.Load() && (full.IsZero() || time.Since(full) < 500*time.Millisecond); time.Sleep(10 * time.Millisecond) {
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if stored = info.State.Msgs; stored >= jetstream.Window && full.IsZero() {
			full = time.Now() // there may be more to come, which must not
		}
	}
	return stored, !ended.Load()
}
