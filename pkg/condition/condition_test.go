package condition

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/event"
)

func TestParseErrors(t *testing.T) {
	text, err := os.ReadFile("testdata/errors.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")[2:]
	for i := 0; i+1 < len(lines); i += 2 {
		expr, want := lines[i], strings.TrimPrefix(lines[i+1], "\t")
		_, err := Parse(expr, []string{"eventA", "eventB", "order-paid"})
		if err == nil || err.Error() != want {
			t.Errorf("Parse(%q)\n got %v\nwant %s", expr, err, want)
		}
	}
}

func TestParseErrorsNameTheLine(t *testing.T) {
	_, err := Parse("a &&\n  c", []string{"a"})
	if want := `line 2, column 3: unknown input "c" (inputs are a)`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	_, err = Parse("a", nil)
	if want := `column 1: unknown input "a" (there are no inputs)`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestParseIsBounded(t *testing.T) {
	var inputs []string
	for c := byte('a'); c <= 'z'; c++ {
		inputs = append(inputs, string(c))
	}
	if _, err := Parse(strings.Join(inputs[:20], " && "), inputs); err != nil {
		t.Errorf("20 inputs: %v", err)
	}
	_, err := Parse(strings.Join(inputs[:21], " && "), inputs)
	if want := "21 inputs and comparisons, but a condition can have at most 20: split it over several subscribers"; err == nil || err.Error() != want {
		t.Errorf("21 inputs: got %v, want %s", err, want)
	}
	_, err = Parse(strings.Repeat("(", 5000), inputs)
	if want := "5000 bytes, but a condition can have at most 4096: split it over several subscribers"; err == nil || err.Error() != want {
		t.Errorf("5000 bytes: got %v, want %s", err, want)
	}
	deep := strings.Repeat("!(", 1000) + "a" + strings.Repeat(")", 1000)
	if _, err := Parse(deep, inputs); err != nil {
		t.Errorf("1000 nested negations: %v", err)
	}
}

func TestInputs(t *testing.T) {
	c := mustParse(t, "c && (a || order-paid.type == 'x')", "a", "b", "c", "order-paid")
	if got, want := c.Inputs(), []string{"a", "c", "order-paid"}; !slices.Equal(got, want) {
		t.Errorf("Inputs() = %v, want %v", got, want)
	}
	for input, want := range map[string]uint64{"a": 1, "b": 0, "c": 2, "order-paid": 4, "nobody": 0} {
		if got := c.Mask(input); got != want {
			t.Errorf("Mask(%s) = %b, want %b", input, got, want)
		}
	}
	if got, want := c.String(), "c && (a || order-paid.type == 'x')"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}

func TestStateless(t *testing.T) {
	for expr, want := range map[string]bool{
		"a":                               true,
		"a || b":                          true,
		"a || b || c.type == 'x' && c":    false, // c, of another type, fires while a is true
		"a || !b":                         true,
		"a && (b.type == 'x' || !b || b)": false, // b fires while a is true
		"a.data.x > 1":                    true,
		"a.data.x > 1 || !b":              false, // b takes away what fires a small a
		"a && !(a.data.x > 1)":            true,
		"a || b || !(b && c)":             true,
		"a && b":                          false,
		"!a && b":                         false,
		"(a && b) || c":                   false,
		"a.data.x == b.data.x":            false,
		"a || (b && c)":                   false,
		"(a || b) && !(c && !c)":          false, // the last c stands under two negations
	} {
		if got := mustParse(t, expr, "a", "b", "c").Stateless(); got != want {
			t.Errorf("Parse(%q).Stateless() = %v, want %v", expr, got, want)
		}
	}
}

func TestGovaluateAndWordsMakeTheSameTable(t *testing.T) {
	inputs := strings.Split("abcdefgh", "")
	for _, expr := range []string{
		"a", "!a || b", "a && b || c && d || e && f || g && h", "a || b && c || d && e", "!(a || b) && c || !(!c && d) && (e || !f)",
		"a && b && c && d || e || f || g && h", "a||b||c||d||e||f||g||h", "a && !(b && !(c && !(d && !(e && !(f && !(g && !h))))))",
		"a.type == 'x' && b || !(c.type == 'y')",
	} {
		p := parser{lexer: lexer{src: expr}, inputs: inputs}
		root, err := p.parse()
		if err != nil {
			t.Fatal(err)
		}
		c := Condition{comparisons: p.comparisons}
		c.number(root, &p)
		n := len(c.inputs) + len(c.comparisons)
		want, err := tabulateGovaluate(root, n)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, tabulateWords(root, n)); diff != "" {
			t.Errorf("%s: govaluate (-) and words (+) differ:\n%s", expr, diff)
		}
	}
}

func TestComparisons(t *testing.T) {
	var b event.Binary
	for _, a := range [][2]string{
		{"specversion", "1.0"}, {"id", "7"}, {"source", "/shop"}, {"type", "created"}, {"subject", "s"}, {"time", "2026-01-02T03:04:05+01:00"},
		{"dataschema", "http://schema/1"}, {"priority", "5"}, {"urgent", "true"}, {"day", "2026-01-01"},
		{"big", "9007199254740993"},
	} {
		if err := b.Set(a[0], a[1]); err != nil {
			t.Fatal(err)
		}
	}
	e, err := b.Event("application/json", []byte(`{"amount":100.5,"neg":-3,"paid":true,"state":"it's \"ok\"","items":[{"sku":"A1"},{"sku":"B2"}],
		"none":null,"order-id":"o-1","huge":1e999,"100":"key","nested":{"deep":{"er":1}},"day":"2026-01-01",
		"big":9007199254740993,"less":9007199254740992,"most":18446744073709551615,"least":-9223372036854775808}`))
	if err != nil {
		t.Fatal(err)
	}
	e.SetExtension("number", int32(9))
	e.SetExtension("flag", false)
	for expr, want := range map[string]bool{
		"o.type == 'created'":                     true,
		`o.type == "created"`:                     true,
		"o.type != 'created'":                     false,
		"'created' == o.type":                     true,
		"o.source == '/shop'":                     true,
		"o.id == '7'":                             true,
		"o.id == 7":                               true,
		"o.subject == 's'":                        true,
		"o.time == '2026-01-02T02:04:05Z'":        true,
		"o.time > '2026-01-02'":                   true,
		"o.time < '2026-01-02'":                   false,
		"o.datacontenttype == 'application/json'": true,
		"o.dataschema == 'http://schema/1'":       true,
		"o.specversion == '1.0'":                  true,
		"o.priority > 3":                          true,
		"o.priority == '5'":                       true,
		"o.priority > 'a'":                        false,
		"o.urgent == true":                        true,
		"o.type == true":                          false,
		"o.type > 3":                              false,
		"o.number == 9":                           true,
		"o.number == '9'":                         true,
		"o.flag == false":                         true,
		"o.absent == ''":                          false,
		"o.absent != 'x'":                         false,
		"o.day == '2026-01-01'":                   true,
		"o.data.day == '2026-01-01'":              true,
		"o.data.day == o.day":                     true,
		"o.data.day >= '2025-12-31'":              true,
		"o.data.amount > 100":                     true,
		"100 < o.data.amount":                     true,
		"100 >= o.data.amount":                    false,
		"o.data.amount == 100.5":                  true,
		"o.data.amount == 1.005e2":                true,
		"o.data.amount != 7":                      true,
		"o.data.amount != '7'":                    false,
		"o.data.amount > o.data.neg":              true,
		"o.data.amount > o.number":                true,
		"o.data.neg<-2":                           true,
		"o.data.neg == -3":                        true,
		"o.data.paid == true":                     true,
		"o.data.paid != false":                    true,
		"o.data.paid == 'true'":                   false,
		"o.data.paid > o.data.amount":             false,
		"o.data.paid > o.data.paid":               false,
		`o.data.state == 'it\'s "ok"'`:            true,
		`o.data.state == "it's \"ok\""`:           true,
		"o.data.items.0.sku == 'A1'":              true,
		"o.data.items.1.sku == 'B2'":              true,
		"o.data.items.2.sku != 'B2'":              false,
		"o.data.items.-1.sku == 'B2'":             false,
		"o.data.items.x == 'B2'":                  false,
		"o.data.items == 'B2'":                    false,
		"o.data.items != 'B2'":                    false,
		"o.data.items == o.data.items":            false,
		"o.data.none != 'x'":                      false,
		"o.data.big == 9007199254740993":          true,
		"o.data.big == 9007199254740993.0":        true,
		"o.data.big == 9007199254740992":          false,
		"o.data.big != 9007199254740992":          true,
		"o.data.less == 9007199254740993":         false,
		"o.data.less < 9007199254740993":          true,
		"o.data.less == 9007199254740992":         true,
		"o.data.big > o.data.less":                true,
		"o.data.big <= o.data.less":               false,
		"o.data.big == o.big":                     true,
		"o.data.less == o.big":                    false,
		"o.big == 9007199254740993":               true,
		"o.data.big > 100":                        true,
		"o.data.big > o.data.amount":              true,
		"o.data.big == '9007199254740993'":        false,
		"o.data.most == 18446744073709551615":     true,
		"o.data.most > 18446744073709551614":      true,
		"o.data.most < 18446744073709551616":      true,
		"o.data.least == -9223372036854775808":    true,
		"o.data.least > -9223372036854775809":     true,
		"o.data.huge > o.data.big":                false,
		"o.data.order-id == 'o-1'":                true,
		"o.data.huge > 1":                         false,
		"o.data.100 == 'key'":                     true,
		"o.data.nested.deep.er == 1":              true,
		"o.data.nested.deep.er.x == 1":            false,
		"o.data == 1":                             false,
		"o && !(o.data.absent == 1)":              true,
		"!(o.data.amount == 1) && o":              true,
		"!o.data.paid == false && o":              true,
	} {
		c, err := Parse(expr, []string{"o"})
		if err != nil {
			t.Errorf("Parse(%q): %v", expr, err)
			continue
		}
		if got := c.Fires(1, e); got != want {
			t.Errorf("%s: fires %v, want %v", expr, got, want)
		}
		r := NewWindow(c, WindowOptions{}).Arrive(Arrival{Inputs: 1, Event: e, Stored: epoch})
		if got := len(r.Fired) == 1; got != want {
			t.Errorf("%s: the window fires %v, want %v", expr, got, want)
		}
	}
}

func TestComparisonsOfOddData(t *testing.T) {
	for _, tt := range []struct {
		name, expr, data string
		want             bool
	}{
		{"a number is the data", "o.data == 5", "5", true},
		{"a text is the data", "o.data == 'x'", `"x"`, true},
		{"an element of an array that is the data", "o.data.1 == 'y'", `["x","y"]`, true},
		{"two values are not JSON", "o.data == 5", "5 6", false},
		{"JSON with a tail is not JSON", "o.data.a == 1", `{"a":1}}`, false},
		{"cut JSON is not JSON", "o.data.a == 1", `{"a":1`, false},
		{"bytes are not JSON", "o.data != 1", "\xff\x00", false},
		{"space around JSON is allowed", "o.data.a == 1", " {\"a\":1}\n", true},
		{"no data", "o.data != 1", "", false},
		{"JSON nested too deeply is not JSON", "o.data != 1", strings.Repeat("[", 20000), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustParse(t, tt.expr, "o").Fires(1, newEvent(t, "1", tt.data)); got != tt.want {
				t.Errorf("Fires = %v, want %v", got, tt.want)
			}
		})
	}
	if mustParse(t, "o.data != 1", "o").Fires(1, nil) {
		t.Error("a comparison holds for no event")
	}
	if mustParse(t, "o.type != 'x'", "o").Fires(1, &event.Event{}) {
		t.Error("a comparison holds for an empty event")
	}
}

func TestFiresOfOriginalTable(t *testing.T) {
	for _, tt := range []struct {
		expr, arrival string
		other         bool // the other input is already true
		want          bool
	}{
		{"eventB", "eventA", true, false},
		{"eventB", "eventA", false, false},
		{"eventB", "eventB", true, true},
		{"eventB", "eventB", false, true},
		{"eventA && eventB", "eventA", true, true},
		{"eventA && eventB", "eventB", true, true},
		{"eventA && eventB", "eventA", false, false},
		{"eventA && eventB", "eventB", false, false},
		{"eventA || eventB", "eventA", true, true},
		{"eventA || eventB", "eventB", false, true},
		{"!eventA && eventB", "eventB", false, true},
		{"!eventA && eventB", "eventB", true, false},
		{"!eventA && eventB", "eventA", false, false},
		{"!eventA && eventB", "eventA", true, false},
	} {
		for _, match := range []Match{Once, Latest} {
			c := mustParse(t, tt.expr, "eventA", "eventB")
			w := NewWindow(c, WindowOptions{Match: match})
			if tt.other {
				other := map[string]string{"eventA": "eventB", "eventB": "eventA"}[tt.arrival]
				w.Arrive(Arrival{Inputs: c.Mask(other), Event: newEvent(t, "other", ""), Stored: epoch})
			}
			r := w.Arrive(Arrival{Inputs: c.Mask(tt.arrival), Event: newEvent(t, "this", ""), Stored: epoch.Add(1)})
			if got := len(r.Fired) > 0; got != tt.want {
				t.Errorf("%s, %s arrives, other %v, match %v: fires %v, want %v", tt.expr, tt.arrival, tt.other, match, got, tt.want)
			}
		}
	}
}

func TestExplain(t *testing.T) {
	for expr, want := range map[string]string{
		"eventB": "eventB fires whenever it arrives.\n" +
			"Every arrival is decided by itself: nothing is held, and the window does not matter.\n",
		"eventA && !eventB": "eventA fires if the condition is true when it arrives, which depends on eventB.\n" +
			"eventB never fires: it stands only under a !. Its latest event is held for the window, since it matters to eventA.\n",
		"eventA && eventB || order.data.amount > 100": "" +
			"eventA fires if the condition is true when it arrives, which depends on eventB and order. Its latest event is held for the window, since it matters to eventB and order.\n" +
			"eventB fires if the condition is true when it arrives, which depends on eventA and order. Its latest event is held for the window, since it matters to eventA and order.\n" +
			"order fires if the condition is true when it arrives, which depends on eventA and eventB. Its latest event is held for the window, since it matters to eventA and eventB.\n" +
			"A comparison is false while its field is missing, has another type, or its input has not arrived.\n",
		"order && order.data.amount > 100": "order fires when its own comparisons allow it.\n" +
			"Every arrival is decided by itself: nothing is held, and the window does not matter.\n" +
			"A comparison is false while its field is missing, has another type, or its input has not arrived.\n",
		"(eventA && !eventA) || eventB && !eventA": "eventA never fires: the condition is false whenever it arrives. Its latest event is held for the window, since it matters to eventB.\n" +
			"eventB fires if the condition is true when it arrives, which depends on eventA.\n",
	} {
		if diff := cmp.Diff(want, mustParse(t, expr, "eventA", "eventB", "order").Explain()); diff != "" {
			t.Errorf("Explain(%s) (-want +got):\n%s", expr, diff)
		}
	}
}

func TestFiresAllocatesNothing(t *testing.T) {
	c, e := mustParse(t, "a || b || c", "a", "b", "c"), newEvent(t, "1", "{}")
	if got := testing.AllocsPerRun(1000, func() { c.Fires(2, e) }); got != 0 {
		t.Errorf("Fires allocates %v times, want 0", got)
	}
}

func TestArriveAllocatesLittle(t *testing.T) {
	c, e := mustParse(t, "a && b", "a", "b"), newEvent(t, "1", "{}")
	w := NewWindow(c, WindowOptions{})
	if got := testing.AllocsPerRun(1000, func() { w.Arrive(Arrival{Inputs: 1, Event: e, Stored: epoch}) }); got > 2 {
		t.Errorf("an arrival that is held allocates %v times, want at most 2", got)
	}
	got := testing.AllocsPerRun(1000, func() {
		w.Arrive(Arrival{Inputs: 1, Event: e, Stored: epoch})
		w.Arrive(Arrival{Inputs: 2, Event: e, Stored: epoch})
	})
	if got > 8 {
		t.Errorf("a match of two allocates %v times, want at most 8", got)
	}
}

func TestFiresFromManyGoroutines(t *testing.T) {
	c, e := mustParse(t, "a && a.data.n > 1 && a.type == 'test'", "a"), newEvent(t, "1", `{"n":2}`)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if !c.Fires(1, e) {
					t.Error("does not fire")
				}
			}
		})
	}
	wg.Wait()
}
