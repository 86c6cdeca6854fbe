package condition

// sight is the last event of each input at a moment, nil where the input is not true.
type sight [maxVariables]*held

// see fills in what was true when h was stored and returns it as a row of the truth table.
func (w *Window) see(h, arriving *held, seen *sight) (row uint64) {
	for x := range w.slots {
		s := w.last(x, h, arriving)
		if s == nil {
			continue
		}
		seen[x] = s
		row |= 1<<x | s.alone&w.c.alone[x]
	}
	for _, j := range w.c.joint {
		c := w.c.comparisons[j]
		if row&c.inputs == c.inputs && c.holds(&seen[c.left.input].doc, &seen[c.right.input].doc) {
			row |= 1 << (len(w.slots) + j)
		}
	}
	return row
}

// last returns the last event of input x that was stored when h was, h included, unless it was too old then.
func (w *Window) last(x int, h, arriving *held) *held {
	if h.Inputs>>x&1 == 1 {
		return h
	}
	s := w.slots[x]
	if s != nil && s.compare(&h.Arrival) > 0 {
		s = nil
	}
	// An arrival that came too late for a slot was still the last one at the time of those between it and the slot's.
	if arriving.Inputs&w.c.matters>>x&1 == 1 && !arriving.gone && arriving.compare(&h.Arrival) <= 0 && (s == nil || arriving.compare(&s.Arrival) > 0) {
		s = arriving
	}
	if s == nil || h.Stored.Sub(s.Stored) >= w.span {
		return nil
	}
	return s
}

// part is an arrival in a match and the inputs that it stands for there.
type part struct {
	*held
	inputs uint64
}

// smallest returns the events that the truth of the row needs: h, and those that cannot be left out one after the other.
// Inputs that occur only negated are no part of a match.
func (w *Window) smallest(h *held, row uint64, seen *sight) []part {
	needed := h.Inputs
	for x, s := range seen[:len(w.slots)] {
		if s == nil || s == h || w.c.positive>>x&1 == 0 {
			continue
		}
		if without := row &^ w.c.involves[x]; w.c.table.at(without) {
			row = without
			continue
		}
		needed |= 1 << x
	}
	matched := make([]part, 0, 4)
	for x, s := range seen[:len(w.slots)] {
		if needed>>x&1 == 1 {
			matched = add(matched, s, x)
		}
	}
	return matched
}

func add(matched []part, s *held, x int) []part {
	for i := range matched {
		if matched[i].held == s {
			matched[i].inputs |= 1 << x
			return matched
		}
	}
	return append(matched, part{s, 1 << x})
}
