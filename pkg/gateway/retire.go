package gateway

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/plan"
)

const (
	unsubscribeTime   = 5 * time.Second
	unsubscribeAtOnce = 16
	// endTime bounds each of the three steps of an end that nobody comes back from.
	endTime = 10 * time.Second
	// retirePause is between two attempts to remove a retired subscription.
	retirePause = 2 * time.Second
)

// sameBroker tells whether two buses lead to the same place. An embedded one is a place of its own.
func sameBroker(a, b *openBus) bool {
	return a == b || a.server == nil && b.server == nil && plan.SameBroker(a.plan, b.plan)
}

// livesOn tells whether the plan has the subscription id of b, under whatever name of that broker.
func (s *state) livesOn(id string, b *openBus) bool {
	p := s.subscribers[id]
	return p != nil && sameBroker(p.bus, b)
}

// unsubscribe removes the subscriptions of those that are gone for good. Three are not removed: one that lives on, one that is retired,
// since that has more time, and one whose subscriber or bus is at another broker now: nobody has given up what waits at the one before, and
// it is delivered if the name leads there again.
func (g *Gateway) unsubscribe(gone map[string]*part, next *state) {
	var all []*part
	for id, p := range gone {
		now := next.buses[p.bus.name]
		switch {
		case next.livesOn(id, p.bus), next.retired[retiredKey(p.bus.name, id)] != nil:
		case p.bus.server != nil && g.o.DataDir == "" && now != p.bus: // in memory: what it has ends with it
		case next.subscribers[id] != nil, now != nil && !sameBroker(now, p.bus):
			g.log.Warnw("the subscription stays on the broker that is left, with what waits in it: lead the bus there again to have it delivered, or remove it by hand",
				"bus", p.bus.name, "subscription", id)
		default:
			all = append(all, p)
		}
	}
	g.remove(g.ctx, unsubscribeTime, all)
}

// remove removes the subscriptions of parts that have stopped, all at once: brokers that are away must not add up.
func (g *Gateway) remove(ctx context.Context, within time.Duration, parts []*part) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var all errgroup.Group
	all.SetLimit(unsubscribeAtOnce)
	for _, p := range parts {
		all.Go(func() error {
			if err := p.bus.Unsubscribe(ctx, *p.subscription); err != nil {
				g.log.Warnw("subscription could not be removed and stays on the broker", "subscription", p.subscription.Name, "error", err)
			}
			return nil
		})
	}
	_ = all.Wait() // what fails is logged
}

// leave removes all subscriptions, and what servers keep for sources, if nobody comes back for them. No part may run any more.
func (g *Gateway) leave(ctx context.Context) {
	if g.o.AtEnd == nil {
		return
	}
	asking, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	if !g.o.AtEnd(asking) {
		return
	}
	g.leaveSources(ctx)
	var all []*part
	for _, p := range g.subscribers {
		all = append(all, p)
	}
	for _, r := range g.retired {
		if !r.removed.Load() {
			all = append(all, &part{bus: r.bus, subscription: &r.subscription})
		}
	}
	g.log.Infow("nobody comes back for the subscriptions: they are removed", "subscriptions", len(all))
	g.remove(ctx, endTime, all)
}

// leaveSources gives up what servers keep for the sources, all at once.
func (g *Gateway) leaveSources(ctx context.Context) {
	ctx, cancel := context.WithTimeout(logging.WithLogger(ctx, g.log), endTime)
	defer cancel()
	var all errgroup.Group
	for _, p := range g.sources {
		if p.leave == nil {
			continue
		}
		all.Go(func() error {
			if err := p.leave(ctx); err != nil {
				g.log.Warnw("what is kept for a source that is gone stays on its server", "part", p.name, "error", err)
			}
			return nil
		})
	}
	_ = all.Wait() // what fails is logged
}

// retirement removes a subscription that earlier plans had, however long its broker is away.
type retirement struct {
	bus          *openBus
	subscription bus.Subscription
	removed      atomic.Bool

	cancel context.CancelFunc
	done   chan struct{}
}

func retiredKey(bus, id string) string { return bus + " " + id }

// retire adds what the plan retires to next: a retirement that goes on, or one that is not begun.
func (g *Gateway) retire(next *state, retired []plan.Retired) {
	for _, spec := range retired {
		b := next.buses[spec.Bus]
		if b == nil || next.livesOn(spec.ID, b) {
			continue
		}
		key := retiredKey(spec.Bus, spec.ID)
		if r := g.retired[key]; r != nil && r.bus == b {
			next.retired[key] = r
			continue
		}
		next.retired[key] = &retirement{bus: b, subscription: bus.Subscription{Name: spec.ID, Topics: spec.Topics}}
	}
}

// endRetirements stops those that next does not keep.
func (g *Gateway) endRetirements(next map[string]*retirement) {
	gone := map[string]*retirement{}
	for key, r := range g.retired {
		if next[key] != r {
			gone[key] = r
		}
	}
	stopRetirements(gone)
}

func stopRetirements(all map[string]*retirement) {
	for _, r := range all {
		r.cancel()
	}
	for _, r := range all {
		<-r.done
	}
}

func (g *Gateway) beginRetirements(next map[string]*retirement) {
	for key, r := range next {
		if g.retired[key] == r {
			continue
		}
		var ctx context.Context
		ctx, r.cancel = context.WithCancel(g.ctx)
		r.done = make(chan struct{})
		go func() {
			defer close(r.done)
			defer r.cancel()
			g.runRetirement(ctx, r)
		}()
	}
}

func (g *Gateway) runRetirement(ctx context.Context, r *retirement) {
	log := g.log.With("bus", r.bus.name, "subscription", r.subscription.Name)
	for logged := false; ; logged = true {
		attempt, cancel := context.WithTimeout(ctx, endTime)
		err := r.bus.Unsubscribe(attempt, r.subscription)
		cancel()
		if err == nil {
			r.removed.Store(true)
			log.Infow("retired subscription is removed")
			return
		}
		if !logged && ctx.Err() == nil {
			log.Warnw("retired subscription is not removed yet, trying again", "error", err)
		}
		select {
		case <-time.After(retirePause):
		case <-ctx.Done():
			return
		}
	}
}
