package redis

import (
	"context"
	"strings"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/openfunction/events/pkg/event"
)

func TestBatch(t *testing.T) {
	var b batch
	for i, step := range []struct{ free, want, entries, bytes int }{
		{64, 1, 1, 100}, {64, 2, 2, 200}, {64, 4, 4, 400}, {3, 3, 3, 300}, // which says nothing of what more hands would get
		{64, 8, 8, 64 << 20}, // large ones come
		{64, 1, 1, 8 << 20}, {64, 1, 1, 100}, {64, 2, 1, 100}, {64, 2, 2, 200}, {64, 4, 0, 0},
	} {
		if got := b.of(step.free); got != step.want {
			t.Errorf("step %d: asks for %d, want %d", i, got, step.want)
		}
		b.saw(step.entries, step.bytes)
	}
	for range 20 {
		b.saw(maxInFlight, 0)
	}
	if got := b.of(1000); got != maxInFlight {
		t.Errorf("asks for %d at most, want %d", got, maxInFlight)
	}
}

// What is held is bounded in bytes too: a pod that is killed for its memory would be given the same again.
func TestHandsHoldNoMoreThanTheyCanCarry(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	release := make(chan struct{})
	h := &hands{
		ctx: ctx, work: t.Context(), log: zap.NewNop().Sugar(), slots: make(chan struct{}, maxInFlight), bytes: semaphore.NewWeighted(maxBytes),
		next: event.HandlerFunc(func(context.Context, *event.Event) error { <-release; return nil }),
	}
	large := func() *event.Event {
		return &event.Event{DataEncoded: []byte(strings.Repeat("x", maxBytes/2+1))}
	}
	settled := make(chan bool, 4)
	h.take(large(), func(done bool, _ error) { settled <- done })
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		h.take(large(), func(done bool, _ error) { settled <- done })
	}()
	select {
	case <-taken:
		t.Error("two that are more than the bound together are held at once")
	case release <- struct{}{}:
	}
	<-taken
	release <- struct{}{}
	h.take(large(), func(done bool, _ error) { settled <- done }) // of which nobody is let go before the end
	cancel()
	h.take(large(), func(done bool, _ error) { settled <- done })
	close(release)
	h.workers.Wait()
	for range 2 {
		if !<-settled {
			t.Error("what was taken is not done")
		}
	}
}
