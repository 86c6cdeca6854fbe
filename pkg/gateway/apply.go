package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/gateway/ingress"
	"github.com/openfunction/events/pkg/plan"
)

// errStarting is the health of a part until it says otherwise.
var errStarting = errors.New("starting")

// ErrClosed is returned by Apply when the gateway has stopped.
var ErrClosed = errors.New("the gateway has stopped")

// part is a goroutine that runs a subscriber or a source.
type part struct {
	name string // for health and logs
	spec string // what it was made from: equal specs are not restarted
	bus  *openBus
	// subscription is set for subscribers, to remove it with them.
	subscription *bus.Subscription
	run          func(ctx context.Context, ready func(error)) error
	// leave gives up what a server keeps for the source. It is nil if there is nothing.
	leave func(ctx context.Context) error
	// intake is set for sources.
	intake *intake
	// deliveries are those to its targets.
	deliveries []deliverer

	cancel context.CancelFunc
	done   chan struct{}
}

// Apply makes the gateway run p in place of the plan before. What is the same in both is not disturbed. It returns once routes are served
// and parts that are gone have stopped; brokers are connected to in the background, see Ready. If p has a mistake, Apply changes nothing,
// unless the gateway is Lenient: then what has the mistake stays as it was, and Report says so of its owner.
func (g *Gateway) Apply(p *plan.Plan) error {
	g.applying.Lock()
	defer g.applying.Unlock()
	if g.closed {
		return ErrClosed
	}
	next, err := g.build(p)
	if err == nil {
		if !g.o.Serving { // what is hidden would tell a sink which of its guesses is a secret of another owner
			g.client.Hide(p)
		}
		g.replace(next)
		g.client.Keep(p)
		now := newApplied(p, next)
		g.applied.Store(now)
		g.metrics.Keep(maps.Keys(now.hashes))
	}
	g.SetError(err)
	return err
}

// state is everything that a plan asks for: what exists already, and what is built but not started.
type state struct {
	buses       map[string]*openBus
	subscribers map[string]*part
	sources     map[string]*part
	routes      map[string]route
	retired     map[string]*retirement
	waiting     map[string]bool // the IDs of subscribers that do not run, but may have subscriptions
	mistakes    []mistake
}

// route is an HTTP event that is served.
type route struct {
	*ingress.Route
	intake *intake
}

// mistake is why something of a plan cannot be built.
type mistake struct {
	owner string
	what  string // as in need; empty for a bus
	err   error
}

func (m mistake) Error() string {
	if m.what == "" {
		return m.err.Error()
	}
	return m.what + ": " + m.err.Error()
}

// build opens what is new. On an error it closes that again.
func (g *Gateway) build(p *plan.Plan) (*state, error) {
	next := &state{
		buses: map[string]*openBus{}, subscribers: map[string]*part{}, sources: map[string]*part{}, routes: map[string]route{},
		retired: map[string]*retirement{}, waiting: map[string]bool{},
	}
	g.fill(next, p)
	if g.o.Lenient || len(next.mistakes) == 0 {
		for _, m := range next.mistakes {
			g.log.Errorw("a part of the plan has a mistake and stays as it was", "owner", m.owner, "error", m)
		}
		return next, nil
	}
	for name, b := range next.buses {
		if g.buses[name] != b {
			_ = b.close()
		}
	}
	m := next.mistakes[0]
	if m.what == "" {
		return nil, m.err
	}
	return nil, fmt.Errorf("%s: %w", m.owner, m)
}

func (g *Gateway) fill(next *state, p *plan.Plan) {
	for _, spec := range p.Buses {
		b, err := g.openBus(spec)
		if err != nil {
			next.mistakes = append(next.mistakes, mistake{owner: spec.Name, err: err})
			b = g.buses[spec.Name]
		}
		if b != nil {
			next.buses[spec.Name] = b
		}
	}
	for _, spec := range p.Subscribers {
		if err := g.addSubscriber(next, spec); err != nil {
			next.mistakes = append(next.mistakes, mistake{spec.Owner(), "subscriber for " + spec.Targets(), err})
			if p := g.subscribers[spec.ID]; p != nil && next.has(p.bus) {
				next.subscribers[spec.ID] = p
			}
		}
	}
	for _, spec := range p.Sources {
		if err := g.addSource(next, spec); err != nil {
			next.mistakes = append(next.mistakes, mistake{spec.Owner(), spec.Kind + " event " + spec.Event, err})
			key := sourceName(spec)
			if p := g.sources[key]; p != nil && next.has(p.bus) {
				next.sources[key] = p
			}
			if r, ok := g.routes[key]; ok && next.has(r.intake.bus) {
				next.routes[key] = r
			}
		}
	}
	for _, spec := range p.WaitingSources {
		if err := g.addWaiting(next, spec); err != nil {
			next.mistakes = append(next.mistakes, mistake{spec.Owner(), spec.Kind + " event " + spec.Event, err})
		}
	}
	for _, spec := range p.Waiting {
		next.waiting[spec.ID] = true
	}
	g.retire(next, p.Retired)
}

// has tells whether b goes on.
func (s *state) has(b *openBus) bool { return b == noBus || s.buses[b.name] == b }

func (s *state) bus(name string) (*openBus, error) {
	if b := s.buses[name]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("no bus %q runs", name)
}

// replace goes from the running state to next: stop what is gone, start what is new.
func (g *Gateway) replace(next *state) {
	// What a bus before cannot publish any more, since the broker has cut it off already, need not wait until what ends has ended.
	for name, old := range g.buses {
		if b := next.buses[name]; b != nil && b != old {
			b.gate.expect(b, next.subscribers)
			old.successor.Store(b)
		}
	}
	g.end(g.sources, next.sources)
	gone := g.end(g.subscribers, next.subscribers)
	g.endRetirements(next.retired)
	g.unsubscribe(gone, next)
	for _, b := range next.buses {
		g.prune(b, next)
	}
	for _, b := range next.buses {
		b.gate.expect(b, next.subscribers)
	}
	g.begin(next.subscribers, g.subscribers)
	g.ingress.SetRoutes(next.served())
	g.begin(next.sources, g.sources)
	g.beginRetirements(next.retired)
	for name, b := range g.buses {
		if next.buses[name] != b {
			if err := b.close(); err != nil {
				g.log.Warnw("bus closed", "bus", name, "error", err)
			}
		}
	}
	g.buses, g.subscribers, g.sources, g.routes, g.retired = next.buses, next.subscribers, next.sources, next.routes, next.retired
}

func (s *state) served() (routes []*ingress.Route) {
	for _, r := range s.routes {
		routes = append(routes, r.Route)
	}
	return routes
}

// end stops the parts of old that next does not keep, all at once, and returns them.
func (g *Gateway) end(old, next map[string]*part) map[string]*part {
	gone := map[string]*part{}
	for key, p := range old {
		if next[key] != p {
			gone[key] = p
		}
	}
	g.stopParts(gone)
	for key, p := range gone {
		if next[key] == nil || next[key].name != p.name {
			g.health.set(p.name, nil)
		}
	}
	return gone
}

func (g *Gateway) begin(next, running map[string]*part) {
	for key, p := range next {
		if running[key] == p {
			continue
		}
		ctx, cancel := context.WithCancel(logging.WithLogger(g.ctx, g.log.With("part", p.name)))
		p.cancel, p.done = cancel, make(chan struct{})
		g.health.set(p.name, errStarting)
		go func() {
			defer close(p.done)
			g.runPart(ctx, p)
		}()
	}
}

func (g *Gateway) runPart(ctx context.Context, p *part) {
	report := func(err error) {
		if ctx.Err() != nil {
			return
		}
		g.health.set(p.name, err)
		if err == nil {
			p.bus.gate.arrive(p)
		} else {
			p.bus.gate.lack(p, err)
		}
	}
	err := p.run(ctx, report)
	if err == nil || ctx.Err() != nil {
		return
	}
	// Only another plan can cure this: the part stays down and says why, and holds up nobody.
	g.log.Errorw("part does not run", "part", p.name, "error", err)
	report(err)
	p.bus.gate.arrive(p)
}

// prune removes the subscriptions that an embedded bus has kept from an earlier process and that the plan no longer has: nobody else
// uses that bus, and it would keep events for them for ever. Those of what waits stay.
func (g *Gateway) prune(b *openBus, next *state) {
	if b.server == nil || b.pruned {
		return
	}
	b.pruned = true
	ctx, cancel := context.WithTimeout(g.ctx, unsubscribeTime)
	defer cancel()
	removed, err := b.Bus.(*jetstream.Bus).Prune(ctx, func(name string) bool {
		p := next.subscribers[name]
		return p != nil && p.bus == b || p == nil && next.waiting[name]
	})
	for name, events := range removed {
		say := g.log.Infow
		if events > 0 {
			say = g.log.Warnw
		}
		say("a subscription that no subscriber has any more is removed with the events that waited in it", "bus", b.name, "subscription", name, "events", events)
	}
	if err != nil {
		g.log.Warnw("subscriptions of an earlier process stay on the bus", "bus", b.name, "error", err)
	}
}

// fingerprint is equal for parts that need not be restarted.
func fingerprint(specs ...any) (string, error) {
	data, err := json.Marshal(specs)
	return string(data), err
}
