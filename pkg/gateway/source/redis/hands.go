package redis

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
)

// maxInFlight bounds the entries that are being handled: that is what a crash may repeat.
const maxInFlight = 64

// maxBytes bounds their data, but for one that is larger.
const maxBytes = 32 << 20

// hands hand on events, several at once.
type hands struct {
	ctx  context.Context // when it is done, nothing is begun or tried again
	work context.Context // when it is done, handlers shall give up

	// idle is called every so often while take waits, if every is above zero.
	idle  func()
	every time.Duration

	slots   chan struct{} // holds one for each event that is being handled
	bytes   *semaphore.Weighted
	workers sync.WaitGroup

	handover source.Handover
}

func (h *hands) free() int { return cap(h.slots) - len(h.slots) }

// take hands on e and then calls settled: done tells whether it was taken or refused for good, and refusal why the latter. It waits for
// a free slot and for room first. Only one goroutine may call it.
func (h *hands) take(e *event.Event, settled func(done bool, refusal error)) {
	size := min(int64(len(e.DataEncoded)), maxBytes)
	if !h.reserve(size) {
		settled(false, nil)
		return
	}
	h.slots <- struct{}{}
	h.workers.Go(func() {
		defer func() {
			<-h.slots
			h.bytes.Release(size)
		}()
		settled(h.handle(e))
	})
}

// reserve waits for room for so many bytes. It is false when ctx is done before.
func (h *hands) reserve(size int64) bool {
	if h.every <= 0 {
		return h.bytes.Acquire(h.ctx, size) == nil
	}
	for {
		ctx, cancel := context.WithTimeout(h.ctx, h.every)
		err := h.bytes.Acquire(ctx, size)
		cancel()
		if err == nil || h.ctx.Err() != nil {
			return err == nil
		}
		h.idle()
	}
}

// handle is not done when ctx was done before.
func (h *hands) handle(e *event.Event) (done bool, refusal error) {
	if h.ctx.Err() != nil {
		return false, nil
	}
	return h.handover.Handle(h.ctx, h.work, e)
}
