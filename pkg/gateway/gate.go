package gateway

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

const (
	// gateTime is how long an event waits for the subscriptions to its topic before its source is told to try again.
	gateTime = 5 * time.Second
	// gateLook is how often an event that waits for the first connection of its bus looks whether that has failed.
	gateLook = 50 * time.Millisecond
)

var errSubscribing = errors.New("its subscriptions are not set up yet")

// gate keeps sources from publishing on a topic until the subscriptions that the plan has to it exist: an event that is published earlier
// might be kept for nobody.
type gate struct {
	mu      sync.Mutex
	missing map[*part]bool
	arrived map[*part]bool

	// closed is nil when nothing is missing, which is all that an event then looks at.
	closed atomic.Pointer[closure]
}

// closure is which topics wait. It never changes: when it ends, over is closed and another, or none, takes its place.
type closure struct {
	topics map[string]bool
	over   chan struct{}
}

// expect says which subscribers a bus has from now on. Those that run already are not waited for again.
func (g *gate) expect(b *openBus, subscribers map[string]*part) {
	g.mu.Lock()
	defer g.mu.Unlock()
	arrived := map[*part]bool{}
	g.missing = map[*part]bool{}
	for _, p := range subscribers {
		switch {
		case p.bus != b:
		case g.arrived[p]:
			arrived[p] = true
		default:
			g.missing[p] = true
		}
	}
	g.arrived = arrived
	g.change()
}

// arrive says that the subscription of p exists, or never will.
func (g *gate) arrive(p *part) {
	if g == nil || p.subscription == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.missing[p] {
		return
	}
	delete(g.missing, p)
	g.arrived[p] = true
	g.change()
}

func (g *gate) change() {
	var next *closure
	if len(g.missing) > 0 {
		next = &closure{topics: map[string]bool{}, over: make(chan struct{})}
		for p := range g.missing {
			for _, topic := range p.subscription.Topics {
				next.topics[topic] = true
			}
		}
	}
	if last := g.closed.Swap(next); last != nil {
		close(last.over)
	}
}

// pass returns nil once events may be published on topic.
func (g *gate) pass(ctx context.Context, b *openBus, topic string) error {
	if c := g.closed.Load(); c == nil || !c.topics[topic] {
		return nil
	}
	timer := time.NewTimer(gateTime)
	defer timer.Stop()
	for {
		c := g.closed.Load()
		if c == nil || !c.topics[topic] {
			return nil
		}
		var look <-chan time.Time
		if err := b.Ready(); errors.Is(err, bus.ErrConnecting) {
			look = time.After(gateLook) // other credentials are another connection: nobody is refused for that
		} else if err != nil {
			return err
		}
		select {
		case <-c.over:
		case <-look:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return &event.Unavailable{What: b.name, After: time.Second, Err: errSubscribing}
		}
	}
}
