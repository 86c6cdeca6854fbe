package condition

import (
	"cmp"
	"slices"
	"time"

	"github.com/openfunction/events/pkg/event"
)

// DefaultWindow is how long an input is true after its last event unless something else is said.
const DefaultWindow = 60 * time.Second

// Match says what becomes of the inputs that made a condition true.
type Match int

const (
	// Once consumes their events: an event takes part in one match.
	Once Match = iota
	// Latest keeps them true until their window ends or a newer event takes their place.
	Latest
)

// WindowOptions say how a Window works.
type WindowOptions struct {
	// Window is how long an input is true after its last event; zero or less means DefaultWindow.
	Window time.Duration
	Match  Match
}

// Arrival is an event that arrived as one or several inputs.
type Arrival struct {
	// Inputs are the bits of the inputs, as Condition.Mask gives them. An event that is several inputs arrives as all of them at once.
	Inputs uint64
	Event  *event.Event
	// Stored is when the bus stored the event. All ages are counted from it, never from when it was processed.
	Stored time.Time
	// Sequence orders arrivals of equal Stored.
	Sequence uint64
	// Ref is the caller's: it comes back untouched.
	Ref any
}

// compare orders arrivals as they were stored.
func (a *Arrival) compare(b *Arrival) int {
	if c := a.Stored.Compare(b.Stored); c != 0 {
		return c
	}
	return cmp.Compare(a.Sequence, b.Sequence)
}

// Firing is one match.
type Firing struct {
	// Arrived is the arrival that fired.
	Arrived Arrival
	// Matched are the arrivals that made the condition true, Arrived included, each once and in the order of their inputs.
	// Inputs of each are those that it stood for in this match.
	Matched []Arrival
}

// Result is what an arrival did.
type Result struct {
	// Fired are the matches, in stored order; more than one, or one of another arrival, only when an arrival came late.
	Fired []Firing
	// Released are the arrivals that the window no longer needs: superseded, consumed, or, the arriving one, not held at all.
	// Every arrival is released exactly once: here or by Expire.
	Released []Arrival
}

// Window keeps what a condition must remember of one subscriber: the latest event of each input that matters to others.
// It is not safe for concurrent use. Nothing but its calls changes it, so that equal calls have equal results.
//
// It holds one event per input at most, and their data as read JSON only if a comparison joins two inputs. Arrive takes time in the
// number of inputs, not in that of events, and one allocation per event held.
type Window struct {
	c     *Condition
	span  time.Duration
	match Match
	slots []*held // by input
}

// held is an arrival while the window works with it, which is while it is in a slot or arriving.
type held struct {
	Arrival
	slots uint64   // the slots it is in
	alone uint64   // which of the comparisons on one input hold
	doc   document // kept only if there are comparisons on two inputs
	fired bool
	gone  bool // consumed
}

// NewWindow returns an empty window.
func NewWindow(c *Condition, o WindowOptions) *Window {
	if o.Window <= 0 {
		o.Window = DefaultWindow
	}
	return &Window{c: c, span: o.Window, match: o.Match, slots: make([]*held, len(c.inputs))}
}

// Arrive takes an arrival and returns what it did.
//
// An arrival that comes late, after others that were stored later, does what it would have done in stored order, as far as the window
// still can: it is evaluated at its own time, then the later ones that are held and have not fired are evaluated again. What has
// fired cannot be undone, and what was consumed stays so: a late event then takes the free place of its input.
// An arrival that is as old as the one held, which a bus does that delivers again, takes its place and may fire again.
func (w *Window) Arrive(a Arrival) Result {
	var r Result
	k := w.admit(a)
	later := w.later(k)
	w.place(k, &r)
	w.try(k, k, &r)
	for _, h := range later {
		if !h.gone {
			w.try(h, k, &r)
		}
	}
	if k.slots == 0 && !k.gone {
		r.Released = append(r.Released, k.Arrival)
	}
	return r
}

func (w *Window) admit(a Arrival) *held {
	k := &held{Arrival: a}
	k.Inputs &= w.c.all
	if len(w.c.comparisons) == 0 {
		return k
	}
	k.doc.event = a.Event
	for rest := k.Inputs; rest != 0; rest &= rest - 1 {
		k.alone |= w.c.compare(rest&-rest, &k.doc)
	}
	if len(w.c.joint) == 0 {
		k.doc = document{}
	}
	return k
}

// later returns what is held, has not fired and was stored after k, in stored order.
func (w *Window) later(k *held) []*held {
	var later []*held
	for _, h := range w.slots {
		if h != nil && !h.fired && h.compare(&k.Arrival) > 0 && !slices.Contains(later, h) {
			later = append(later, h)
		}
	}
	if len(later) > 1 {
		slices.SortStableFunc(later, func(a, b *held) int { return a.compare(&b.Arrival) })
	}
	return later
}

// place puts k into the slots of its inputs that matter and hold nothing newer.
func (w *Window) place(k *held, r *Result) {
	for x, old := range w.slots {
		if k.Inputs&w.c.matters>>x&1 == 0 || old != nil && old.compare(&k.Arrival) > 0 {
			continue
		}
		w.slots[x] = k
		k.slots |= 1 << x
		if old == nil {
			continue
		}
		if old.slots &^= 1 << x; old.slots == 0 {
			r.Released = append(r.Released, old.Arrival)
		}
	}
}

// try fires h if the condition was true when h was stored; arriving is the arrival that this is all about.
func (w *Window) try(h, arriving *held, r *Result) {
	if h.Inputs&w.c.positive == 0 {
		return
	}
	var seen sight
	row := w.see(h, arriving, &seen)
	if !w.c.table.at(row) {
		return
	}
	matched := w.smallest(h, row, &seen)
	f := Firing{Arrived: h.Arrival, Matched: make([]Arrival, len(matched))}
	for i, m := range matched {
		f.Matched[i] = m.held.Arrival
		f.Matched[i].Inputs = m.inputs
	}
	r.Fired = append(r.Fired, f)
	if w.match == Latest {
		h.fired = true
		return
	}
	for _, m := range matched {
		w.remove(m.held)
		m.gone = true
		r.Released = append(r.Released, m.held.Arrival)
	}
}

func (w *Window) remove(h *held) {
	for x := range w.slots {
		if w.slots[x] == h {
			w.slots[x] = nil
		}
	}
	h.slots = 0
}

// Expire releases what is held and as old as the window or older, in stored order.
// A late arrival can no longer be matched with it, so an owner that knows of arrivals still to come calls it after them.
func (w *Window) Expire(now time.Time) []Arrival {
	var expired []Arrival
	for _, h := range w.sorted() {
		if now.Sub(h.Stored) < w.span {
			break
		}
		w.remove(h)
		expired = append(expired, h.Arrival)
	}
	return expired
}

// NextExpiry returns when Expire will next release something, and false if nothing is held.
func (w *Window) NextExpiry() (time.Time, bool) {
	var next time.Time
	found := false
	for _, h := range w.slots {
		if h != nil && (!found || h.Stored.Before(next)) {
			next, found = h.Stored, true
		}
	}
	if !found {
		return time.Time{}, false
	}
	return next.Add(w.span), true
}

// Held returns what is held, in stored order.
func (w *Window) Held() []Arrival {
	var arrivals []Arrival
	for _, h := range w.sorted() {
		arrivals = append(arrivals, h.Arrival)
	}
	return arrivals
}

func (w *Window) sorted() []*held {
	var all []*held
	for _, h := range w.slots {
		if h != nil && !slices.Contains(all, h) {
			all = append(all, h)
		}
	}
	slices.SortStableFunc(all, func(a, b *held) int { return a.compare(&b.Arrival) })
	return all
}
