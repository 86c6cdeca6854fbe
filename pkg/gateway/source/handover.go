package source

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/flood"
)

// How long a Handover waits before it tries again: at first, and at most.
const (
	firstWait = 200 * time.Millisecond
	maxWait   = 30 * time.Second
)

// Handover hands events to the next stage, each until it is taken or refused for good.
type Handover struct {
	Next event.Handler
	Log  *zap.SugaredLogger

	refusals flood.Refusals
}

// Handle returns once e is done: taken, or refused for good, and then why. When ctx is done nothing is tried again, and e is not done if it was
// not taken until then; when work is done, an attempt under way shall give up. Handle may be called from many goroutines at once.
func (h *Handover) Handle(ctx, work context.Context, e *event.Event) (done bool, refusal error) {
	refused := false
	for wait := firstWait; ; wait = min(2*wait, maxWait) {
		err := h.Next.Handle(work, e)
		away, _ := errors.AsType[*event.Unavailable](err)
		// A dead letter that is not taken at the moment does not refuse for good, nor does an attempt that was cut off.
		if err == nil || event.IsPermanent(err) && away == nil && work.Err() == nil {
			if h.refusals.Taken(refused) {
				h.Log.Infow("events are taken again")
			}
			return true, err
		}
		if h.refusals.Refused(refused) {
			h.Log.Warnw("event is not taken, trying again", "id", event.Short(e.ID()), "error", err)
		}
		refused = true
		pause := wait
		if away != nil {
			pause = max(pause, min(away.After, maxWait))
		}
		Pause(ctx, pause)
		if ctx.Err() != nil {
			h.refusals.GivenUp()
			return false, nil
		}
	}
}

// Pause returns after d, or when ctx is done.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
