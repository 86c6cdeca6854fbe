package plan

import (
	"cmp"
	"slices"
	"strconv"
)

// Inherit returns next with the durable subscriptions that last has for the same subscribers, so that what waits in them is delivered. A
// subscriber is the same if it leads to the same targets; failing that, if one of its owner is gone that had its condition, inputs and bus: its
// targets were edited then. One that is only Waiting is not gone. last may be nil.
func Inherit(last, next *Plan) *Plan {
	p := *next
	p.Subscribers = slices.Clone(next.Subscribers)
	if last != nil {
		p.inherit(last)
	}
	return &p
}

func (s *Subscriber) key() string { return cmp.Or(s.Key, s.ID) }

// inherit is Inherit for a plan whose subscribers nobody else has.
func (p *Plan) inherit(last *Plan) {
	heirs := map[*Subscriber]bool{}
	used := map[string]bool{}
	pair := func(same func(s, old *Subscriber) bool) {
		for i := range p.Subscribers {
			s := &p.Subscribers[i]
			for j := range last.Subscribers {
				old := &last.Subscribers[j]
				if heirs[s] || used[old.ID] || !same(s, old) {
					continue
				}
				heirs[s], used[old.ID] = true, true
				s.become(old.ID)
			}
		}
	}
	pair(func(s, old *Subscriber) bool { return s.key() == old.key() })
	pair(func(s, old *Subscriber) bool {
		return s.Owner() == old.Owner() && s.Condition == old.Condition && slices.Equal(s.Inputs, old.Inputs) &&
			p.sameBus(s.Bus, last, old.Bus) && !slices.Contains(p.Waiting, old.key())
	})
	for _, old := range last.Subscribers { // what is not inherited is kept, or retired with what waits in it
		used[old.ID] = true
	}
	for i := range p.Subscribers {
		s := &p.Subscribers[i]
		for n := 2; !heirs[s] && used[s.ID]; n++ { // the name is another one's
			s.become(subscriberID([]string{s.key()}, strconv.Itoa(n)))
		}
		used[s.ID] = true
	}
}

func (s *Subscriber) become(id string) {
	if s.Key = s.key(); s.Key == id {
		s.Key = ""
	}
	s.ID = id
}

// sameBus tells whether p's bus name leads where last's bus other does.
func (p *Plan) sameBus(name string, last *Plan, other string) bool {
	b, ok := p.bus(name)
	old, was := last.bus(other)
	return ok && was && SameBroker(*b, *old)
}
