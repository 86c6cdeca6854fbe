package trigger

import (
	"context"
	"errors"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/dispatch"
)

const (
	// firstPause is how long a delivery that failed holds up its key before it is tried again; each time twice as long, up to lastPause.
	firstPause = time.Second
	lastPause  = time.Minute
)

// begin delivers e and then calls settle; it does not wait for either. With delivery.ordering key, events of one key are delivered one after
// the other: one that is not taken, nor its dead letter, holds up those behind it until it is, as it would come again after them otherwise.
func (s *Subscriber) begin(ctx context.Context, e *event.Event, deliver func() error, settle func(error)) {
	key := ""
	if s.o.Subscriber.Delivery.KeyOrder {
		key = event.PartitionKey(e)
	}
	if key == "" {
		s.start(func() { settle(deliver()) })
		return
	}
	s.lanes.Add(key, func() bool {
		settle(insist(ctx, deliver))
		return true
	}, s.start)
}

// insist delivers until that succeeds or ctx is done.
func insist(ctx context.Context, deliver func() error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		if ctx.Err() != nil {
			return dispatch.ErrStopped
		}
		err := deliver()
		if err == nil || errors.Is(err, dispatch.ErrStopped) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}
