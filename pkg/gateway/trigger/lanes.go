package trigger

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/dispatch"
)

const (
	// firstPause is how long a delivery that failed holds up its key before it is tried again; each time twice as long, up to lastPause.
	firstPause = time.Second
	lastPause  = time.Minute
)

// lanes run what has one key one after the other, in the order in which it came. They have no bound of their own: a bus hands over no more
// than MaxInFlight messages that are not Done. The zero value is ready.
type lanes struct {
	mu sync.Mutex
	// waiting has the keys of which something runs, with what runs after it.
	waiting map[string][]func()
}

// add runs f by start, or after what runs already for this key.
func (l *lanes) add(key string, f func(), start func(func())) {
	l.mu.Lock()
	waiting, busy := l.waiting[key]
	if busy {
		l.waiting[key] = append(waiting, f)
		l.mu.Unlock()
		return
	}
	if l.waiting == nil {
		l.waiting = map[string][]func(){}
	}
	l.waiting[key] = nil
	l.mu.Unlock()
	start(func() {
		for f := f; f != nil; f = l.following(key) {
			f()
		}
	})
}

// following returns what runs next for key, or nil: then nothing runs for it any more.
func (l *lanes) following(key string) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := l.waiting[key]
	if len(waiting) == 0 {
		delete(l.waiting, key)
		return nil
	}
	l.waiting[key] = waiting[1:]
	return waiting[0]
}

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
	s.lanes.add(key, func() { settle(insist(ctx, deliver)) }, s.start)
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
