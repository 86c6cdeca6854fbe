package cron

import (
	"context"
	"errors"
	"sync"
	"time"

	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
)

const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// handOver hands ticks to the next stage, a bounded number at once. It lives as long as one Run.
type handOver struct {
	s    *Source
	next event.Handler
	// stopping ends new attempts; ctx, which ends a moment later, those that are under way.
	stopping context.Context
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

func newHandOver(stopping context.Context, s *Source, next event.Handler) *handOver {
	h := &handOver{s: s, next: next, stopping: stopping}
	h.ctx, h.cancel = context.WithCancel(context.WithoutCancel(stopping))
	return h
}

// start hands over the event of tick in the background. When no place is free it waits for one, and returns false if ctx is done first.
func (h *handOver) start(ctx context.Context, tick time.Time) bool {
	select {
	case h.s.places <- struct{}{}:
	default:
		logging.FromContext(ctx).Warnw("too many ticks are under way, the next one waits", "tick", moment(tick), "underWay", maxInFlight)
		select {
		case h.s.places <- struct{}{}:
		case <-ctx.Done():
			return false
		}
	}
	h.running.Go(func() {
		defer func() { <-h.s.places }()
		h.deliver(tick)
	})
	return true
}

// deliver tries until the next stage has the event, will never take it, or Run ends.
func (h *handOver) deliver(tick time.Time) {
	log := logging.FromContext(h.ctx)
	e, err := newEvent(h.s.o.Source, tick)
	if err != nil {
		log.Errorw("tick cannot become an event and is dropped", "tick", moment(tick), "error", err)
		return
	}
	refused := false
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		err := h.next.Handle(h.ctx, e)
		permanent := event.IsPermanent(err)
		if permanent {
			log.Errorw("event is refused for good and dropped", "id", event.Short(e.ID()), "error", err)
		}
		if err == nil || permanent {
			if h.s.refusals.Taken(refused) {
				log.Infow("events are taken again", "id", event.Short(e.ID()))
			}
			return
		}
		if h.s.refusals.Refused(refused) && h.stopping.Err() == nil {
			log.Warnw("event is not taken, trying again", "id", event.Short(e.ID()), "error", err)
		}
		refused = true
		select {
		case <-h.s.o.After(max(backoff, min(wanted(err), maxBackoff))):
		case <-h.stopping.Done():
		}
		if h.stopping.Err() != nil {
			h.s.refusals.GivenUp()
			log.Errorw("event was not taken before the end", "id", event.Short(e.ID()), "error", err)
			return
		}
	}
}

// wanted is how long the next stage asks to be left alone.
func wanted(err error) time.Duration {
	var away *event.Unavailable
	if errors.As(err, &away) {
		return away.After
	}
	return 0
}

// wait returns when nothing is under way any more; after stopGrace it ends what is.
func (h *handOver) wait() {
	defer h.cancel()
	done := make(chan struct{})
	go func() {
		h.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-h.s.o.After(stopGrace):
		h.cancel()
		<-done
	}
}
