package gateway

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/ingress"
	"github.com/openfunction/events/pkg/plan"
)

// applied is what Report and Ready have to know of the plan that runs. It never changes.
type applied struct {
	hashes map[string]string
	needs  map[string][]need // by owner, and by bus
	// mistakes are by owner what the plan has that does not run.
	mistakes   map[string][]string
	deliveries map[string][]deliverer // by owner
	retired    []plan.Retired
	removed    map[string]*retirement // by retiredKey
	// buses are those that count: not with nothing but retired subscriptions.
	buses map[string]*openBus
}

// need is something that an object cannot do without: a bus, or another part.
type need struct {
	bus  *openBus
	name string // in the health
	what string // what a person calls it
	// behind is the bus whose problem explains this one's.
	behind *openBus
	// route is asked instead of the health, which holds no routes.
	route *ingress.Route
}

func newApplied(p *plan.Plan, running *state) *applied {
	a := &applied{
		hashes: p.Hashes(), needs: map[string][]need{}, mistakes: map[string][]string{}, deliveries: map[string][]deliverer{}, retired: p.Retired, removed: running.retired,
		buses: maps.Clone(running.buses),
	}
	for _, m := range running.mistakes {
		a.mistakes[m.owner] = append(a.mistakes[m.owner], m.Error())
	}
	add := func(owner string, n need) {
		if n != (need{}) && !slices.Contains(a.needs[owner], n) {
			a.needs[owner] = append(a.needs[owner], n)
		}
	}
	for _, b := range p.Buses {
		add(b.Name, need{bus: running.buses[b.Name]})
	}
	leftover := map[string]bool{}
	for _, r := range p.Retired {
		leftover[r.Bus] = true
	}
	for _, s := range p.Sources {
		delete(leftover, s.Bus)
		add(s.Owner(), need{bus: running.buses[s.Bus]})
		add(s.Owner(), need{name: sourceName(s), what: s.Kind + " event " + s.Event, route: running.routes[sourceName(s)].Route})
		in := running.routes[sourceName(s)].intake
		if part := running.sources[sourceName(s)]; part != nil {
			in = part.intake
			a.deliveries[s.Owner()] = append(a.deliveries[s.Owner()], part.deliveries...)
		}
		if in != nil {
			a.deliveries[s.Owner()] = append(a.deliveries[s.Owner()], in)
		}
	}
	for _, s := range p.Subscribers {
		delete(leftover, s.Bus)
		b := running.buses[s.Bus]
		add(s.Owner(), need{bus: b})
		if part := running.subscribers[s.ID]; part != nil {
			add(s.Owner(), need{name: part.name, what: "subscriber for " + s.Targets(), behind: b})
			a.deliveries[s.Owner()] = append(a.deliveries[s.Owner()], part.deliveries...)
		}
	}
	maps.DeleteFunc(a.buses, func(name string, _ *openBus) bool { return leftover[name] })
	return a
}

// SetError makes Report say that the latest plan is not applied, for a reason that Apply did not see. The next Apply overrides it, and so
// does nil.
func (g *Gateway) SetError(err error) {
	if err == nil {
		g.failure.Store(nil)
		return
	}
	text := err.Error()
	g.failure.Store(&text)
}

// Report says what runs and what keeps it from running well just now. It never waits for an Apply.
func (g *Gateway) Report() plan.Report {
	r := plan.Report{Objects: map[string]plan.ObjectReport{}}
	if text := g.failure.Load(); text != nil {
		r.Error = *text
	}
	a := g.applied.Load()
	if a == nil {
		return r
	}
	for owner, hash := range a.hashes {
		o := plan.ObjectReport{Hash: hash, Problems: append(g.problems(a.needs[owner]), a.mistakes[owner]...)}
		for _, d := range a.deliveries[owner] {
			if why := d.failing(); why != "" && !slices.Contains(o.Failing, why) {
				o.Failing = append(o.Failing, why)
			}
		}
		r.Objects[owner] = o
	}
	for name, b := range a.buses {
		if o, ok := r.Objects[name]; ok {
			o.Losing, o.Failing = b.Losing(), b.full.failing()
			r.Objects[name] = o
		}
	}
	var waiting []string
	for _, s := range a.retired {
		if one := a.removed[retiredKey(s.Bus, s.ID)]; one != nil && one.removed.Load() {
			r.Retired = append(r.Retired, s.ID)
		} else {
			waiting = append(waiting, s.ID)
		}
	}
	// One ID may be on several buses, and is told when it is on none.
	r.Retired = slices.DeleteFunc(r.Retired, func(id string) bool { return slices.Contains(waiting, id) })
	slices.Sort(r.Retired)
	r.Retired = slices.Compact(r.Retired)
	return r
}

func (g *Gateway) problems(needs []need) (problems []string) {
	for _, n := range needs {
		if n.bus != nil {
			switch err := n.bus.Ready(); {
			case errors.Is(err, bus.ErrConnecting):
				problems = append(problems, n.bus.name+plan.Starting)
			case err != nil:
				problems = append(problems, err.Error())
			}
			continue
		}
		err := g.health.get(n.name)
		if n.route != nil {
			err = n.route.Problem()
		}
		switch {
		case err == nil || n.behind != nil && n.behind.Ready() != nil:
		case errors.Is(err, errStarting):
			problems = append(problems, n.what+plan.Starting)
		default:
			problems = append(problems, fmt.Sprintf("%s: %v", n.what, err))
		}
	}
	return problems
}
