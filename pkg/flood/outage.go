package flood

import (
	"sync"
	"sync/atomic"
	"time"
)

// sayAgain is how long after it was said that something fails it may be said again.
const sayAgain = 30 * time.Second

// Outage decides when to say that something fails, and when that it works again: once each, and of what fails and works by turns every half
// minute at the most. The zero value is ready. Its methods may be called from many goroutines at once.
type Outage struct {
	said atomic.Bool

	mu   sync.Mutex
	last time.Time
}

// Begins is called after each failure, and tells whether to say so.
func (o *Outage) Begins() bool {
	if o.said.Load() {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if !o.last.IsZero() && now.Sub(o.last) < sayAgain {
		return false
	}
	o.last = now
	o.said.Store(true)
	return true
}

// Ends is called after each success, and tells whether to say so.
func (o *Outage) Ends() bool { return o.said.Load() && o.said.CompareAndSwap(true, false) }
