package condition

import (
	"os"
	"strings"
	"testing"
	"time"
)

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("testdata/errors.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f.Add(strings.TrimSuffix(line, "\n"), `{"x":1}`)
	}
	f.Add("a && (b || !c) && a.data.x >= -1.5e3", `{"x":2}`)
	f.Add(`a.data.items.0.sku == "A\"1" || b.time < '2026-01-01' && !!d-e`, `{"items":[{"sku":"A\"1"}]}`)
	f.Add("a.data.x == b.data.x && a.type != c.subject", "[1,2")
	f.Add(`a.data["x.y"]['z \'"'].0 == 1`, `{"x.y":{"z '\"":[1]}}`)
	inputs := []string{"a", "b", "c", "d-e", "eventA", "eventB", "order-paid"}
	f.Fuzz(func(t *testing.T, expr, data string) {
		c, err := Parse(expr, inputs)
		if err != nil {
			if c != nil || err.Error() == "" {
				t.Fatalf("Parse(%q) = %v, %v", expr, c, err)
			}
			return
		}
		if c.Explain() == "" {
			t.Error("Explain says nothing")
		}
		e := newEvent(t, "1", data)
		w := NewWindow(c, WindowOptions{Match: Match(len(data) % 2)})
		arrivals, fired := 0, false
		released := 0
		for i, name := range append(c.Inputs(), c.Inputs()...) {
			a := Arrival{Inputs: c.Mask(name), Event: e, Stored: epoch.Add(time.Duration(i*7%5) * time.Second), Sequence: uint64(i)}
			r := w.Arrive(a)
			arrivals, released = arrivals+1, released+len(r.Released)
			fired = len(r.Fired) > 0
			if c.Stateless() && fired != c.Fires(a.Inputs, e) {
				t.Errorf("%q: %s fires %v in the window and %v without one", expr, name, fired, !fired)
			}
		}
		if released += len(w.Expire(epoch.Add(time.Hour))); released != arrivals {
			t.Errorf("%q: %d arrived and %d were released", expr, arrivals, released)
		}
	})
}
