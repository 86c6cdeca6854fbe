package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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
	// gateRefused is for how long a broker must have answered with nothing but refusals before a subscription is not waited for any more: it would stop
	// a source, and everybody else's subscriptions to it, until somebody raises a limit. An election, or a server that is starting, is over by then. The
	// price: should the subscription come to exist, it begins with what is published after that. Nobody was promised more, since its Trigger is not Ready.
	gateRefused = 10 * time.Second
)

var errSubscribing = errors.New("its subscriptions are not set up yet")

// gate keeps sources from publishing on a topic until the subscriptions that the plan has to it exist: an event that is published earlier
// might be kept for nobody.
type gate struct {
	mu      sync.Mutex
	missing map[*part]absence
	arrived map[*part]bool // also those that are not waited for

	// closed is nil when nothing is missing, which is all that an event then looks at.
	closed atomic.Pointer[closure]
}

// absence is what is known of a subscription that does not exist yet.
type absence struct {
	err   error     // why; nil at first
	since time.Time // when the first of the refusals was that there has been nothing but since; zero if the last answer was none
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
	missing := map[*part]absence{}
	for _, p := range subscribers {
		switch {
		case p.bus != b:
		case g.arrived[p]:
			arrived[p] = true
		default:
			missing[p] = g.missing[p] // another plan says nothing new of it
		}
	}
	g.missing, g.arrived = missing, arrived
	g.change()
}

// arrive says that the subscription of p exists, or never will.
func (g *gate) arrive(p *part) {
	if g == nil || p.subscription == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.missing[p]; ok {
		g.settle(p)
	}
}

// lack says that the subscription of p does not exist, and why.
func (g *gate) lack(p *part, err error) {
	if g == nil || p.subscription == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	last, ok := g.missing[p]
	if !ok {
		return
	}
	now := absence{err: err}
	if bus.IsRefused(err) {
		now.since = cmp.Or(last.since, time.Now())
	}
	g.missing[p] = now
	if !now.since.IsZero() && time.Since(now.since) >= gateRefused {
		g.settle(p)
	}
}

// settle ends the wait for p.
func (g *gate) settle(p *part) {
	delete(g.missing, p)
	g.arrived[p] = true
	g.change()
}

// why says whom a topic waits for, and what is known of that: of several, always the same.
func (g *gate) why(topic string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var first *part
	for p := range g.missing {
		if slices.Contains(p.subscription.Topics, topic) && (first == nil || p.name < first.name) {
			first = p
		}
	}
	if first == nil { // it has come just now
		return errSubscribing
	}
	return fmt.Errorf("%w: %s: %v", errSubscribing, first.name, cmp.Or(g.missing[first].err, errStarting)) // not %w: what it cannot have is not what is wrong with an event
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
			return &event.Unavailable{What: b.name, After: time.Second, Err: g.why(topic)}
		}
	}
}
