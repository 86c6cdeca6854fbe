package flood

import "sync/atomic"

// Refusals decides when to say that events are not taken, and when that they are again: the former once until none is left that was refused, and
// as seldom as an Outage. The zero value is ready. Its methods may be called from many goroutines at once.
type Refusals struct {
	waiting atomic.Int64 // events that were refused and are to be tried again
	outage  Outage
}

// Refused is called after each attempt that another one shall follow, and tells whether to say so. again is false of an event's first one.
func (r *Refusals) Refused(again bool) bool {
	if !again {
		r.waiting.Add(1)
	}
	return r.outage.Begins()
}

// Taken is called when nothing more is to be done for an event, and tells whether to say that events are taken again. refused tells whether
// Refused was called for it.
func (r *Refusals) Taken(refused bool) bool {
	return refused && r.waiting.Add(-1) == 0 && r.outage.Ends()
}

// GivenUp is called instead of Taken for an event that was refused and is left to somebody else: nothing is known of the stage then, and the next
// refusal is another outage.
func (r *Refusals) GivenUp() { r.Taken(true) }
