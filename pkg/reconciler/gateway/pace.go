package gateway

import (
	"sync"
	"time"
)

// pace keeps passes from taking more than their share of the time. It is safe for concurrent use.
type pace struct {
	mu   sync.Mutex
	took time.Duration // the last pass
	next time.Time     // no pass before
}

// begin says that a pass begins. The function that it returns says that it has ended.
func (p *pace) begin(now time.Time) (end func(time.Time)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = now.Add(share * p.took)
	return func(end time.Time) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.took = end.Sub(now)
		p.next = now.Add(share * p.took)
	}
}

// rest is how long not to begin.
func (p *pace) rest(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next.Sub(now)
}
