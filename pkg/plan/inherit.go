package plan

import (
	"cmp"
	"slices"
	"strconv"
)

func (s *Subscriber) key() string { return cmp.Or(s.Key, s.ID) }

// inherit gives p, whose subscribers nobody else has, the durable subscriptions that last has for the same ones, so that what waits in them is
// delivered. A subscriber is the same if it leads to the same targets; failing that, if one of its owner is gone that had its condition, inputs and
// bus: its targets were edited then. One that is only Waiting is not gone, and inherits as the others do.
func (p *Plan) inherit(last *Plan) {
	var declared []*Subscriber
	for _, all := range [][]Subscriber{p.Subscribers, p.Waiting} {
		for i := range all {
			declared = append(declared, &all[i])
		}
	}
	known := slices.Concat(last.Subscribers, last.Waiting)
	heirs := map[*Subscriber]bool{}
	used := map[string]bool{}
	pair := func(all []Subscriber, same func(s, old *Subscriber) bool) {
		for _, s := range declared {
			for i := range all {
				old := &all[i]
				if heirs[s] || used[old.ID] || !same(s, old) {
					continue
				}
				heirs[s], used[old.ID] = true, true
				s.become(old.ID)
			}
		}
	}
	pair(known, func(s, old *Subscriber) bool { return s.key() == old.key() })
	pair(last.Subscribers, func(s, old *Subscriber) bool { return p.edited(s, last, old) })
	for _, old := range known { // what is not inherited is kept, or retired with what waits in it
		used[old.ID] = true
	}
	for _, s := range declared {
		for n := 2; !heirs[s] && used[s.ID]; n++ { // the name is another one's
			s.become(subscriberID([]string{s.key()}, strconv.Itoa(n)))
		}
		used[s.ID] = true
	}
}

// edited tells whether s may be what an edit of its targets has made of old, as far as is known of one that waits.
func (p *Plan) edited(s *Subscriber, last *Plan, old *Subscriber) bool {
	return s.Owner() == old.Owner() && s.Condition == old.Condition &&
		(s.Inputs == nil || slices.Equal(s.Inputs, old.Inputs)) && (s.Bus == "" || p.sameBus(s.Bus, last, old.Bus))
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
