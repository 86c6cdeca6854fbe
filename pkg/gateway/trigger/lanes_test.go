package trigger

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openfunction/events/pkg/event"
)

// gates let deliveries of an event wait until they are opened.
type gates struct {
	mu   sync.Mutex
	open map[string]chan error
}

func (g *gates) of(id string) chan error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[id] == nil {
		g.open[id] = make(chan error, 8)
	}
	return g.open[id]
}

func startOrdered(t *testing.T, condition string) (*fixture, *gates) {
	t.Helper()
	sub := subscriber(condition)
	sub.Delivery.KeyOrder = true
	g := &gates{open: map[string]chan error{}}
	f := start(t, sub)
	f.deliver = func(e *event.Event) error { return <-g.of(e.ID()) }
	return f, g
}

func TestEventsOfOneKeyAreDeliveredOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := startOrdered(t, "a")
		f.send("ta", newEvent(t, "k1", "partitionkey", "k"), nil)
		f.send("ta", newEvent(t, "k2", "partitionkey", "k"), nil)
		f.send("ta", newEvent(t, "k3", "partitionkey", "k"), nil)
		f.send("ta", newEvent(t, "other", "partitionkey", "o"), nil)
		f.send("ta", newEvent(t, "without"), nil)
		for _, id := range []string{"k3", "k2", "other", "without"} {
			g.of(id) <- nil
		}
		got := slices.Sorted(slices.Values(f.got()))
		want(t, "delivered while the first of k is not", got, []string{"other", "without"})
		g.of("k1") <- nil
		got = f.got()
		want(t, "delivered", got[len(got)-3:], []string{"k1", "k2", "k3"})
		want(t, "acknowledged", f.acked(), []string{"k1", "k2", "k3", "other", "without"})
	})
}

func TestADeliveryThatFailsHoldsUpItsKeyAndNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := startOrdered(t, "a")
		f.send("ta", newEvent(t, "k1", "partitionkey", "k"), nil)
		f.send("ta", newEvent(t, "k2", "partitionkey", "k"), nil)
		g.of("k1") <- errors.New("boom")
		g.of("k2") <- nil
		want(t, "delivered after a failure", f.got(), nil)
		want(t, "acknowledged after a failure", f.acked(), nil)
		g.of("k1") <- nil
		time.Sleep(2 * firstPause)
		want(t, "delivered", f.got(), []string{"k1", "k2"})
	})
}

func TestAJoinIsDeliveredInTheOrderOfItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := startOrdered(t, "a && b")
		f.send("ta", newEvent(t, "a1"), nil)
		f.send("tb", newEvent(t, "b1", "partitionkey", "k"), nil)
		time.Sleep(time.Millisecond)
		f.send("ta", newEvent(t, "a2"), nil)
		f.send("tb", newEvent(t, "b2", "partitionkey", "k"), nil)
		g.of("b2") <- nil
		want(t, "delivered while the first is not", f.got(), nil)
		g.of("b1") <- nil
		want(t, "delivered", f.got(), []string{"b1", "b2"})
		want(t, "acknowledged", f.acked(), []string{"a1", "a2", "b1", "b2"})
	})
}

func TestWhatWaitsForItsKeyStaysOnTheBusAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := startOrdered(t, "a")
		f.send("ta", newEvent(t, "k1", "partitionkey", "k"), nil)
		f.send("ta", newEvent(t, "k2", "partitionkey", "k"), nil)
		synctest.Wait()
		ended := make(chan struct{})
		go func() {
			f.stop()
			close(ended)
		}()
		synctest.Wait()
		g.of("k1") <- nil
		<-ended
		want(t, "delivered", f.got(), []string{"k1"})
		want(t, "acknowledged", f.acked(), []string{"!k2", "k1"})
	})
}
