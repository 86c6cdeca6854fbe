package condition

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestAll(t *testing.T) {
	c := mustParse(t, "order-paid && b", "a", "b", "order-paid")
	w := NewWindow(c, WindowOptions{})
	w.Arrive(Arrival{Inputs: c.Mask("order-paid"), Event: newEvent(t, "p1", `{"n":1}`), Stored: epoch})
	r := w.Arrive(Arrival{Inputs: c.Mask("b"), Event: newEvent(t, "b1", ""), Stored: epoch.Add(1500 * time.Millisecond)})
	e, err := All(r.Fired[0], "default/my-trigger", c.Inputs())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	if e.Type() != TypeMatch || e.Source() != "/triggers/default/my-trigger" || e.DataContentType() != "application/json" || !e.Time().Equal(epoch.Add(1500*time.Millisecond)) {
		t.Errorf("attributes of %v", e)
	}
	want := `{"b":{"specversion":"1.0","id":"b1","source":"/test","type":"test","datacontenttype":"application/json"},` +
		`"order-paid":{"specversion":"1.0","id":"p1","source":"/test","type":"test","datacontenttype":"application/json","data":{"n":1}}}`
	if got := string(e.Data()); got != want {
		t.Errorf("data\n got %s\nwant %s", got, want)
	}
	if len(e.ID()) != 32 || strings.Trim(e.ID(), "0123456789abcdef") != "" {
		t.Errorf("id %q, want 32 hexadecimal digits", e.ID())
	}
	again, err := All(r.Fired[0], "default/my-trigger", c.Inputs())
	if err != nil || again.ID() != e.ID() {
		t.Errorf("the same match has ids %s and %s", e.ID(), again.ID())
	}
}

func TestAllOfAnEventThatIsTwoInputsNamesItTwice(t *testing.T) {
	c := mustParse(t, "a && b", "a", "b")
	r := NewWindow(c, WindowOptions{}).Arrive(Arrival{Inputs: 3, Event: newEvent(t, "s1", ""), Stored: epoch})
	e, err := All(r.Fired[0], "ns/t", c.Inputs())
	if err != nil {
		t.Fatal(err)
	}
	var data map[string]struct{ ID string }
	if err := json.Unmarshal(e.Data(), &data); err != nil {
		t.Fatal(err)
	}
	if len(data) != 2 || data["a"].ID != "s1" || data["b"].ID != "s1" {
		t.Errorf("data = %s, want s1 as a and as b", e.Data())
	}
}

func TestAllWantsTheNameOfEveryInput(t *testing.T) {
	f := Firing{Matched: []Arrival{{Inputs: 2, Event: newEvent(t, "b1", "")}}}
	_, err := All(f, "ns/t", []string{"a"})
	if want := "merge ns/t: event b1 is of an input that has no name"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestMatchIDsDifferWhereMatchesDo(t *testing.T) {
	match := func(ids ...string) []Arrival {
		var matched []Arrival
		for _, id := range ids {
			matched = append(matched, Arrival{Event: newEvent(t, id, "")})
		}
		return matched
	}
	seen := map[string]bool{}
	for _, ids := range [][]string{{"1", "2"}, {"2", "1"}, {"12"}, {"1"}, {"1", "2", "3"}, {"1", "23"}, {"12", "3"}} {
		id := matchID(match(ids...))
		if seen[id] {
			t.Errorf("the id of %v is that of another match", ids)
		}
		seen[id] = true
	}
}
