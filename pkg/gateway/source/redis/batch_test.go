package redis

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/sync/semaphore"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
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
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		release := make(chan struct{})
		h := &hands{
			ctx: ctx, work: t.Context(), slots: make(chan struct{}, maxInFlight), bytes: semaphore.NewWeighted(maxBytes),
			handover: source.Handover{Next: event.HandlerFunc(func(context.Context, *event.Event) error { <-release; return nil })},
		}
		var taken, done, left atomic.Int64
		go func() {
			for range 4 { // any two are more than the bound
				h.take(&event.Event{DataEncoded: make([]byte, maxBytes/2+1)}, func(ok bool, _ error) {
					if ok {
						done.Add(1)
					} else {
						left.Add(1)
					}
				})
				taken.Add(1)
			}
		}()
		for n := range int64(2) {
			synctest.Wait()
			if taken.Load() != n+1 || done.Load() != n {
				t.Errorf("%d are taken and %d done, want %d and %d", taken.Load(), done.Load(), n+1, n)
			}
			release <- struct{}{}
		}
		synctest.Wait()
		stop() // while the third is handled, and the fourth waits for room
		close(release)
		synctest.Wait()
		h.workers.Wait()
		if done.Load() != 3 || left.Load() != 1 {
			t.Errorf("%d are done and %d left at the end, want 3 and 1", done.Load(), left.Load())
		}
	})
}
