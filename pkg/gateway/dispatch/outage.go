package dispatch

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
)

// sayAgain is how long after it was said that deliveries fail it may be said again.
const sayAgain = 30 * time.Second

// outage says once that deliveries to a target fail, and once that they are taken again. When they come and go it says so every half
// minute at the most.
type outage struct {
	said atomic.Bool

	mu   sync.Mutex
	last time.Time
}

// begins is called after each attempt that another one follows.
func (o *outage) begins(ctx context.Context, e *event.Event, err error) {
	if event.IsSaid(err) || o.said.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := time.Now(); o.last.IsZero() || now.Sub(o.last) >= sayAgain {
		o.last = now
		o.said.Store(true)
		logging.FromContext(ctx).Warnw("event is not taken, trying again", "id", event.Short(e.ID()), "error", err)
	}
}

// ends is called after each delivery.
func (o *outage) ends(ctx context.Context, e *event.Event) {
	if o.said.Load() && o.said.CompareAndSwap(true, false) {
		logging.FromContext(ctx).Infow("events are taken again", "id", event.Short(e.ID()))
	}
}
