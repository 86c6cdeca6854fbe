package plan

import (
	"cmp"
	"slices"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// maxRetired bounds the memory of a plan: the oldest subscriptions beyond it stay on their broker.
const maxRetired = 64

// Succeed returns next as the plan that follows last: its subscribers inherit, and what last still has to remove, and the subscriptions
// that next drops, are retired.
//
// What is waiting in next has a passing problem (its sink or bus is away, say): what last runs for it goes on as it was. What is neither in
// next nor waiting there is not declared any more, and ends, whatever the problems of others.
//
// When last is nil, nothing is known to run; the subscriptions are still those that next remembers. Subscribers of last on a bus that last does
// not have do not run either, and are not retired: those of next inherit their subscriptions. So it is with those that lead nowhere, of which
// nothing but the subscription is known, as long as they wait.
//
// A source whose sink waits for a Secret waits too, unless last has the sink's subscription: nobody would keep its events for the sink.
//
// A subscription is not retired when its bus leads elsewhere now, or its subscriber has another bus: the old broker may well be gone, and if
// not, what waits there stays until the subscriber is back.
func Succeed(last, next *Plan) *Plan {
	p := &Plan{
		Buses:       slices.Clone(next.Buses),
		Sources:     slices.Clone(next.Sources),
		Subscribers: slices.Clone(next.Subscribers),
		Waiting:     slices.Clone(next.Waiting),
	}
	if last == nil {
		last = &Plan{Waiting: next.Remembered}
	}
	p.inherit(last)
	waiting := slices.Clone(next.WaitingSources)
	p.Sources = slices.DeleteFunc(p.Sources, func(s Source) bool {
		lacks := !p.has(s, last)
		if lacks {
			waiting = append(waiting, s.waiting())
		}
		return lacks
	})
	for _, s := range last.Sources {
		if slices.ContainsFunc(waiting, s.same) && !slices.ContainsFunc(p.Sources, s.same) && p.keepBus(last, s.Bus) {
			p.Sources = append(p.Sources, s)
		}
	}
	p.WaitingSources = slices.DeleteFunc(waiting, func(s Source) bool { return slices.ContainsFunc(p.Sources, s.same) })
	var dropped, kept []Subscriber
	for _, s := range last.Subscribers {
		has := func(o Subscriber) bool { return o.ID == s.ID }
		switch {
		case slices.ContainsFunc(p.Subscribers, has):
		case slices.ContainsFunc(p.Waiting, has) && !s.runs():
		case slices.ContainsFunc(p.Waiting, has) && p.keepBus(last, s.Bus):
			kept = append(kept, s)
		default:
			dropped = append(dropped, s)
		}
	}
	p.Subscribers = append(p.Subscribers, kept...)
	p.Waiting = slices.DeleteFunc(p.Waiting, func(s Subscriber) bool { // it need not be remembered: whoever it is told apart by runs
		return slices.ContainsFunc(kept, func(o Subscriber) bool { return o.ID == s.ID && o.key() == s.key() })
	})
	for _, r := range last.Retired {
		p.retire(last, r)
	}
	for _, s := range dropped {
		r := Retired{Bus: s.Bus, ID: s.ID}
		for _, in := range s.Inputs {
			r.Topics = append(r.Topics, in.Topic)
		}
		slices.Sort(r.Topics)
		r.Topics = slices.Compact(r.Topics)
		p.retire(last, r)
	}
	if n := len(p.Retired) - maxRetired; n > 0 {
		p.Retired = p.Retired[n:]
	}
	p.sort()
	return p
}

// Subscriptions are those of the subscribers of p and of those that wait, as a status names them.
func (p *Plan) Subscriptions() []v1alpha1.SubscriptionStatus {
	var all []v1alpha1.SubscriptionStatus
	for _, s := range slices.Concat(p.Subscribers, p.Waiting) {
		all = append(all, v1alpha1.SubscriptionStatus{Name: s.ID, Key: s.Key})
	}
	slices.SortFunc(all, func(a, b v1alpha1.SubscriptionStatus) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(all, func(a, b v1alpha1.SubscriptionStatus) bool { return a.Name == b.Name })
}

// has tells whether there is what s needs: its sink's subscription is one of last, or is none of p's business.
func (p *Plan) has(s Source, last *Plan) bool {
	i := slices.IndexFunc(p.Waiting, func(w Subscriber) bool { return w.key() == s.Needs })
	return i < 0 || slices.ContainsFunc(last.Subscribers, func(old Subscriber) bool {
		return old.ID == p.Waiting[i].ID && p.sameBus(s.Bus, last, old.Bus)
	})
}

// runs tells whether s leads somewhere. If not, its subscription is all that is known of it.
func (s *Subscriber) runs() bool { return s.Sink != nil || s.Topic != "" }

func (s *Source) same(o Source) bool {
	return s.Namespace == o.Namespace && s.EventSource == o.EventSource && s.Event == o.Event && s.Kind == o.Kind
}

// keepBus makes the bus of last that has the name p's too. It reports false if p means another one by that name, or nobody knows it.
func (p *Plan) keepBus(last *Plan, name string) bool {
	if name == "" {
		return true
	}
	old, known := last.bus(name)
	if !known {
		return false
	}
	if b, ok := p.bus(name); ok {
		return SameBroker(*b, *old)
	}
	p.Buses = append(p.Buses, *old)
	return true
}

// retire adds r unless somebody has that subscription now, or its bus is not the one it was.
func (p *Plan) retire(last *Plan, r Retired) {
	old, ok := last.bus(r.Bus)
	if !ok || slices.ContainsFunc(p.Retired, func(o Retired) bool { return o.ID == r.ID && o.Bus == r.Bus }) {
		return
	}
	for _, s := range p.Subscribers {
		if b, ok := p.bus(s.Bus); ok && s.ID == r.ID && SameBroker(*b, *old) {
			return
		}
	}
	if p.keepBus(last, r.Bus) {
		p.Retired = append(p.Retired, r)
	}
}

func (p *Plan) bus(name string) (*Bus, bool) {
	for i := range p.Buses {
		if p.Buses[i].Name == name {
			return &p.Buses[i], true
		}
	}
	return nil, false
}

func (p *Plan) sort() {
	slices.SortFunc(p.Buses, func(a, b Bus) int { return cmp.Compare(a.Name, b.Name) })
	bySource := func(a, b Source) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.EventSource, b.EventSource),
			cmp.Compare(a.Event, b.Event), cmp.Compare(a.Kind, b.Kind))
	}
	slices.SortFunc(p.Sources, bySource)
	slices.SortFunc(p.WaitingSources, bySource)
	byID := func(a, b Subscriber) int { return cmp.Compare(a.ID, b.ID) }
	slices.SortFunc(p.Subscribers, byID)
	slices.SortFunc(p.Waiting, byID)
}
