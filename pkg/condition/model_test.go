package condition

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// model is a naive window for arrivals in stored order: it remembers every event for ever and evaluates the tree.
type model struct {
	root     *node
	c        *Condition
	span     time.Duration
	match    Match
	past     []Arrival
	consumed map[uint64]bool // by sequence
}

func (n *node) eval(vars uint64) bool {
	switch n.op {
	case '!':
		return !n.left.eval(vars)
	case '&':
		return n.left.eval(vars) && n.right.eval(vars)
	case '|':
		return n.left.eval(vars) || n.right.eval(vars)
	}
	return vars>>n.bit&1 == 1
}

// truth says whether the condition is true of the events that the inputs have, by input.
func (m *model) truth(last map[int]Arrival) bool {
	var vars uint64
	for x := range last {
		vars |= 1 << x
	}
	for j, c := range m.c.comparisons {
		l, hasLeft := last[c.left.input]
		r := l
		if c.right.input >= 0 {
			if r, hasLeft = last[c.right.input], hasLeft && last[c.right.input].Event != nil; !hasLeft {
				continue
			}
		}
		if hasLeft && c.holds(&document{event: l.Event}, &document{event: r.Event}) {
			vars |= 1 << (len(m.c.inputs) + j)
		}
	}
	return m.root.eval(vars)
}

// arrive returns the ids of the match, and "" when there is none.
func (m *model) arrive(a Arrival) string {
	m.past = append(m.past, a)
	last := map[int]Arrival{}
	for x := range m.c.inputs {
		for _, p := range m.past {
			if p.Inputs>>x&1 == 1 {
				last[x] = p
			}
		}
		if p, ok := last[x]; ok && (m.consumed[p.Sequence] || !p.Stored.After(a.Stored.Add(-m.span))) {
			delete(last, x)
		}
	}
	if a.Inputs&m.root.occurrences(false, m.c.comparisons) == 0 || !m.truth(last) {
		return ""
	}
	needed := map[uint64]bool{a.Sequence: true}
	for x := range m.c.inputs {
		p, ok := last[x]
		if !ok || p.Sequence == a.Sequence || m.c.positive>>x&1 == 0 {
			continue
		}
		delete(last, x)
		if !m.truth(last) {
			last[x] = p
			needed[p.Sequence] = true
		}
	}
	var ids []string
	for sequence := range needed {
		ids = append(ids, fmt.Sprint(sequence))
		m.consumed[sequence] = m.match == Once
	}
	slices.Sort(ids)
	return fmt.Sprintf("%d with %s", a.Sequence, strings.Join(ids, ","))
}

func firing(f Firing) string {
	var ids []string
	for _, m := range f.Matched {
		ids = append(ids, fmt.Sprint(m.Sequence))
	}
	slices.Sort(ids)
	return fmt.Sprintf("%d with %s", f.Arrived.Sequence, strings.Join(ids, ","))
}

// randomExpr is over the inputs a to d; it may be one that Parse rejects.
func randomExpr(r *rand.Rand, depth int) string {
	if depth == 0 || r.IntN(5) == 0 {
		x, y := "abcd"[r.IntN(4)], "abcd"[r.IntN(4)]
		switch r.IntN(6) {
		case 0:
			return fmt.Sprintf("%c.data.n > %d", x, r.IntN(3))
		case 1:
			if x != y {
				return fmt.Sprintf("%c.data.n == %c.data.n", x, y)
			}
		}
		return string(x)
	}
	left, right := randomExpr(r, depth-1), randomExpr(r, depth-1)
	switch r.IntN(6) {
	case 0:
		return "!(" + left + ")"
	case 1, 2:
		return "(" + left + " || " + right + ")"
	}
	return "(" + left + " && " + right + ")"
}

func randomCondition(r *rand.Rand) (*Condition, *node) {
	inputs := []string{"a", "b", "c", "d"}
	for {
		expr := randomExpr(r, 3)
		c, err := Parse(expr, inputs)
		if err != nil {
			continue
		}
		p := parser{lexer: lexer{src: expr}, inputs: inputs}
		root, err := p.parse()
		if err != nil {
			panic(err)
		}
		(&Condition{comparisons: p.comparisons}).number(root, &p)
		return c, root
	}
}

func randomArrival(t *testing.T, r *rand.Rand, c *Condition, sequence uint64, at time.Duration) Arrival {
	a := Arrival{Sequence: sequence, Stored: epoch.Add(at), Inputs: 1 << r.IntN(len(c.inputs))}
	if r.IntN(10) == 0 {
		a.Inputs |= 1 << r.IntN(len(c.inputs))
	}
	a.Event = newEvent(t, fmt.Sprint(sequence), []string{"", "{}", `{"n":1}`, `{"n":2}`, `{"n":"x"}`}[r.IntN(5)])
	return a
}

func TestWindowIsTheNaiveModelInOrder(t *testing.T) {
	fired := 0
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 1))
		c, root := randomCondition(r)
		o := WindowOptions{Window: 10 * time.Second, Match: Match(seed % 2)}
		w := NewWindow(c, o)
		m := &model{root: root, c: c, span: o.Window, match: o.Match, consumed: map[uint64]bool{}}
		books := ledger{T: t, released: map[uint64]int{}}
		at := time.Duration(0)
		for i := range uint64(60) {
			at += time.Duration(r.IntN(5)) * time.Second
			a := randomArrival(t, r, c, i, at)
			got, want := "", m.arrive(a)
			result := w.Arrive(a)
			for _, f := range result.Fired {
				got += firing(f)
				fired++
			}
			if got != want {
				t.Fatalf("seed %d, %s, arrival %d (inputs %b) fires %q, want %q", seed, c, i, a.Inputs, got, want)
			}
			if c.Stateless() && c.Fires(a.Inputs, a.Event) != (want != "") {
				t.Fatalf("seed %d, %s, arrival %d (inputs %b): Fires is not what the window does", seed, c, i, a.Inputs)
			}
			books.add(result.Released)
			if r.IntN(4) == 0 {
				books.add(w.Expire(epoch.Add(at)))
			}
			if n := len(w.Held()); n > len(c.inputs) {
				t.Fatalf("seed %d, %s: %d held for %d inputs", seed, c, n, len(c.inputs))
			}
		}
		books.close(w, 60)
	}
	if fired < 5000 {
		t.Errorf("only %d matches: the sequences test nothing", fired)
	}
}

// ledger checks that every arrival is released exactly once.
type ledger struct {
	*testing.T
	released map[uint64]int
}

func (l ledger) add(released []Arrival) {
	for _, a := range released {
		l.released[a.Sequence]++
	}
}

func (l ledger) close(w *Window, n uint64) {
	l.Helper()
	l.add(w.Expire(epoch.Add(time.Hour)))
	if _, ok := w.NextExpiry(); ok || len(w.Held()) != 0 {
		l.Errorf("%s: something is held after everything expired", w.c)
	}
	for i := range n {
		if l.released[i] != 1 {
			l.Errorf("%s: arrival %d was released %d times, want once", w.c, i, l.released[i])
		}
	}
}

func TestArrivalsInAnyOrderAreLegalAndRepeatable(t *testing.T) {
	for seed := range uint64(1000) {
		var runs [2]string
		for run := range runs {
			runs[run] = runShuffled(t, seed)
		}
		if runs[0] != runs[1] {
			t.Fatalf("seed %d: two runs differ:\n%s\n%s", seed, runs[0], runs[1])
		}
	}
}

func runShuffled(t *testing.T, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 2))
	c, _ := randomCondition(r)
	o := WindowOptions{Window: 10 * time.Second, Match: Match(seed % 2)}
	w := NewWindow(c, o)
	var arrivals []Arrival
	for i := range uint64(40) {
		arrivals = append(arrivals, randomArrival(t, r, c, i, time.Duration(i)*time.Second))
	}
	for i := range arrivals {
		j := max(0, i-r.IntN(8))
		arrivals[i], arrivals[j] = arrivals[j], arrivals[i]
	}
	books := ledger{T: t, released: map[uint64]int{}}
	used := map[uint64]int{}
	var log strings.Builder
	for _, a := range arrivals {
		result := w.Arrive(a)
		books.add(result.Released)
		for _, f := range result.Fired {
			fmt.Fprintln(&log, firing(f))
			checkLegal(t, c, o, f)
			used[f.Arrived.Sequence]++
			for _, m := range f.Matched {
				if o.Match == Once && m.Sequence != f.Arrived.Sequence {
					used[m.Sequence]++
				}
			}
		}
	}
	for sequence, n := range used {
		if n > 1 {
			t.Errorf("seed %d, %s: arrival %d took part in %d matches", seed, c, sequence, n)
		}
	}
	books.close(w, 40)
	return log.String()
}

func checkLegal(t *testing.T, c *Condition, o WindowOptions, f Firing) {
	t.Helper()
	if f.Arrived.Inputs&c.positive == 0 {
		t.Errorf("%s: %s fired, which only stands under a !", c, firing(f))
	}
	found := false
	for _, m := range f.Matched {
		found = found || m.Sequence == f.Arrived.Sequence
		if age := f.Arrived.Stored.Sub(m.Stored); age < 0 || age >= o.Window {
			t.Errorf("%s: %s matched an event %s old", c, firing(f), age)
		}
	}
	if !found {
		t.Errorf("%s: %s does not hold the arrival", c, firing(f))
	}
}

func TestOneEventOfEachInputInAnyOrderFiresWhatStoredOrderFires(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 3))
		c := mustParse(t, "a && b && c && d", "a", "b", "c", "d")
		o := WindowOptions{Window: 10 * time.Second, Match: Match(seed % 2)}
		var arrivals []Arrival
		for i, x := range r.Perm(4) {
			at := time.Duration(i*r.IntN(5)) * time.Second // sometimes equal, sometimes too far apart
			arrivals = append(arrivals, Arrival{Inputs: 1 << x, Stored: epoch.Add(at), Sequence: uint64(i), Event: newEvent(t, "e", "")})
		}
		slices.SortFunc(arrivals, func(a, b Arrival) int { return a.compare(&b) })
		want := fired(NewWindow(c, o), arrivals)
		r.Shuffle(4, func(i, j int) { arrivals[i], arrivals[j] = arrivals[j], arrivals[i] })
		if got := fired(NewWindow(c, o), arrivals); got != want {
			t.Errorf("seed %d: shuffled fires %q, in order %q", seed, got, want)
		}
	}
}

func fired(w *Window, arrivals []Arrival) (all string) {
	for _, a := range arrivals {
		for _, f := range w.Arrive(a).Fired {
			all += firing(f) + ";"
		}
	}
	return all
}
