package condition

// The scripts in testdata/window-*.txt say what a window does, one line per step:
//
//	scenario NAME                    begins a scenario; window and match go back to 60s and Once
//	condition EXPRESSION             the condition
//	inputs NAME...                   the inputs of the trigger
//	window DURATION                  how long an input is true
//	match Once|Latest
//	at TIME INPUT[+INPUT...] ID [JSON] -> OUTCOME
//	                                 an event arrives as the inputs; TIME is when it was stored, which orders events of equal time as
//	                                 they stand here, unless written TIME#SEQUENCE
//	repeat N at TIME INPUT ID        N events ID.1 to ID.N arrive, each a millisecond after the other; nothing fires
//	expire TIME -> ID,...|nothing    what Expire releases
//	next TIME|never                  what NextExpiry says
//	held ID,...|nothing              what Held says
//
// OUTCOME is "fires ID with ID,...", "released ID,..." and "held" (the arriving one is), those that apply, separated by "; ".

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newEvent(t testing.TB, id, data string) *event.Event {
	t.Helper()
	var b event.Binary
	for _, a := range [][2]string{{"specversion", "1.0"}, {"id", id}, {"source", "/test"}, {"type", "test"}} {
		if err := b.Set(a[0], a[1]); err != nil {
			t.Fatal(err)
		}
	}
	e, err := b.Event("application/json", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mustParse(t testing.TB, expr string, inputs ...string) *Condition {
	t.Helper()
	c, err := Parse(expr, inputs)
	if err != nil {
		t.Fatalf("Parse(%q): %v", expr, err)
	}
	return c
}

type script struct {
	*testing.T
	expr   string
	inputs []string
	o      WindowOptions

	c        *Condition
	w        *Window
	steps    uint64
	arrived  map[string]int
	released map[string]int
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/window-*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "\nscenario ")[1:] {
			name, body, _ := strings.Cut(part, "\n")
			t.Run(name, func(t *testing.T) {
				s := &script{T: t, arrived: map[string]int{}, released: map[string]int{}}
				for line := range strings.Lines(body) {
					if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
						s.step(line)
					}
				}
				s.accounts()
			})
		}
	}
}

func (s *script) step(line string) {
	verb, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	before, want, _ := strings.Cut(rest, " -> ")
	before, want = strings.TrimSpace(before), strings.TrimSpace(want)
	var got string
	switch verb {
	case "condition":
		s.expr = rest
		return
	case "inputs":
		s.inputs = strings.Fields(rest)
		return
	case "window":
		s.o.Window = s.duration(rest)
		return
	case "match":
		s.o.Match = map[string]Match{"Once": Once, "Latest": Latest}[rest]
		return
	}
	s.open()
	switch verb {
	case "at":
		got = s.at(before)
	case "repeat":
		s.repeat(rest)
		return
	case "expire":
		got = s.ids(s.w.Expire(epoch.Add(s.duration(before))))
		s.release(got)
	case "next":
		got, want = "never", rest
		if next, ok := s.w.NextExpiry(); ok {
			got, want = next.Sub(epoch).String(), s.duration(rest).String()
		}
	case "held":
		got, want = s.ids(s.w.Held()), rest
	default:
		s.Fatalf("what is %q?", line)
	}
	if got != want {
		s.Errorf("%s\n got %s", line, got)
	}
}

func (s *script) open() {
	if s.w == nil {
		s.c = mustParse(s.T, s.expr, s.inputs...)
		s.w = NewWindow(s.c, s.o)
	}
}

func (s *script) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.Fatal(err)
	}
	return d
}

func (s *script) at(text string) string {
	f := strings.SplitN(text, " ", 2)
	at, sequence, explicit := strings.Cut(f[0], "#")
	f = append(strings.Fields(f[1]), "", "")
	a := Arrival{Stored: epoch.Add(s.duration(at)), Ref: f[1]}
	s.steps++
	a.Sequence = s.steps
	if explicit {
		n, err := strconv.ParseUint(sequence, 10, 64)
		if err != nil {
			s.Fatal(err)
		}
		a.Sequence = n
	}
	for _, input := range strings.Split(f[0], "+") {
		a.Inputs |= s.c.Mask(input)
	}
	a.Event = newEvent(s.T, f[1], strings.Join(f[2:], ""))
	return s.arrive(a)
}

func (s *script) arrive(a Arrival) string {
	id := a.Ref.(string)
	s.arrived[id]++
	r := s.w.Arrive(a)
	var out []string
	for _, f := range r.Fired {
		out = append(out, fmt.Sprintf("fires %s with %s", f.Arrived.Ref, s.ids(f.Matched)))
	}
	if len(r.Released) > 0 {
		out = append(out, "released "+s.ids(r.Released))
		s.release(s.ids(r.Released))
	}
	if slices.Contains(strings.Split(s.ids(s.w.Held()), ","), id) {
		out = append(out, "held")
	}
	return strings.Join(out, "; ")
}

func (s *script) repeat(text string) {
	f := strings.Fields(text) // N at TIME INPUT ID
	n, err := strconv.Atoi(f[0])
	if err != nil {
		s.Fatal(err)
	}
	for i := range n {
		got := s.at(fmt.Sprintf("%s %s %s.%d", s.duration(f[2])+time.Duration(i)*time.Millisecond, f[3], f[4], i+1))
		if strings.Contains(got, "fires") {
			s.Errorf("%s: %s", text, got)
		}
		if len(s.w.Held()) > len(s.inputs) {
			s.Fatalf("%s: %d events held for %d inputs", text, len(s.w.Held()), len(s.inputs))
		}
	}
}

func (s *script) ids(arrivals []Arrival) string {
	if len(arrivals) == 0 {
		return "nothing"
	}
	ids := make([]string, len(arrivals))
	for i, a := range arrivals {
		ids[i] = a.Ref.(string)
	}
	return strings.Join(ids, ",")
}

func (s *script) release(ids string) {
	for _, id := range strings.Split(ids, ",") {
		s.released[id]++
	}
}

// accounts checks that every arrival was released exactly once or is still held.
func (s *script) accounts() {
	for _, a := range s.w.Held() {
		s.release(a.Ref.(string))
	}
	for id, n := range s.arrived {
		if s.released[id] != n {
			s.Errorf("%s arrived %d times, and was released or is held %d times", id, n, s.released[id])
		}
	}
}
