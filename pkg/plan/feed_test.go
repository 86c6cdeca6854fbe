package plan

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func feed() *Plan {
	return &Plan{
		Buses:       []Bus{{Name: "EventBus d/a", JetStream: &JetStream{URL: "nats://u:secret@a", NATSAccess: NATSAccess{Password: "p"}}}, {Name: "EventBus d/b", Embedded: &Embedded{}}},
		Sources:     []Source{{Namespace: "d", EventSource: "es", Event: "e", Kind: "http", Bus: "EventBus d/a", HTTP: &HTTP{MaxBodyBytes: 1}}},
		Subscribers: []Subscriber{{ID: "1", Trigger: "d/t", Bus: "EventBus d/b"}, {ID: "2", EventSource: "d/es", Bus: "EventBus d/a"}},
	}
}

func TestDecodeIsTheOppositeOfEncode(t *testing.T) {
	data, err := Encode(feed())
	if err != nil {
		t.Fatal(err)
	}
	again, err := Encode(feed())
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("equal plans are encoded differently (%v)", err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if got.Buses[0].JetStream.Password != "p" {
		t.Error("the password is lost")
	}
	if diff := cmp.Diff(got.String(), feed().String()); diff != "" {
		t.Errorf("decoded (-got +want):\n%s", diff)
	}
}

// Who runs the plan may know nothing of what waits, or another form of it.
func TestWhatWaitsIsANote(t *testing.T) {
	p := feed()
	p.WaitingSources = []Source{
		{Namespace: "d", EventSource: "es", Event: "tick", Kind: "cron", Why: "who would be told?"},
		{Namespace: "d", EventSource: "es", Event: "w", Kind: "http", Why: "spec.x cannot be used"},
	}
	data, err := Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.WaitingSources[1:], got.WaitingSources); diff != "" || !got.Waits() {
		t.Errorf("what waits (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(feed().Hashes(), got.Hashes()); diff != "" {
		t.Errorf("another thing runs (-want +got):\n%s", diff)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	first := json.NewDecoder(z) // as a gateway of before reads
	first.DisallowUnknownFields()
	var old Plan
	if err := first.Decode(&old); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(feed().String(), old.String()); diff != "" {
		t.Errorf("a gateway of before runs (-want +got):\n%s", diff)
	}
	for _, notes := range []string{"", "\n", `{"waiting": "in other words"}`, `{"future": []}`, "{", "[]"} {
		if p, err := Decode(zipped(`{"sources": [{"event": "e"}]}` + notes)); err != nil || len(p.Sources) != 1 || len(p.WaitingSources) != 0 {
			t.Errorf("notes %q: %v, %v, want the plan without", notes, p, err)
		}
	}
}

func zipped(s string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(s))
	_ = z.Close()
	return b.Bytes()
}

func TestRecall(t *testing.T) {
	for name, tt := range map[string]struct {
		data []byte
		want string // the subscribers, or an error
	}{
		"nothing":                       {nil, ""},
		"a plan":                        {zipped(`{"subscribers": [{"id": "a"}]}`), "a"},
		"a plan of a version with more": {zipped(`{"future": {"x": 1}, "subscribers": [{"id": "a", "colour": "red"}]}`), "a"},
		"a plan of a version with something else": {zipped(`{"subscribers": "a"}`), "cannot unmarshal"},
		"half of a plan": {zipped(`{"subscribers": [`), "unexpected EOF"},
	} {
		p, err := Recall(tt.data)
		got := ""
		if p != nil {
			got = p.Subscribers[0].ID
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.want) || got != "" && tt.want == "" {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":             {nil, "decode plan: EOF"},
		"no gzip":             {[]byte("{}{}{}{}{}{}"), "gzip: invalid header"},
		"an unknown field":    {zipped(`{"busses": []}`), `unknown field "busses"`},
		"a bomb":              {zipped(strings.Repeat(" ", maxDecoded+1)), "larger than"},
		"half of a plan":      {zipped(`{"buses": [`), "unexpected EOF"},
		"a cut off gzip file": {zipped(`{"buses": []}`)[:20], "unexpected EOF"},
	} {
		if _, err := Decode(tt.data); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}

func TestHashesChangeWithWhatTheyAreOf(t *testing.T) {
	before := feed().Hashes()
	for name, tt := range map[string]struct {
		change func(*Plan)
		want   []string
	}{
		"nothing":           {func(*Plan) {}, nil},
		"a bus":             {func(p *Plan) { p.Buses[0].JetStream.Password = "q" }, []string{"EventBus d/a", "EventSource d/es"}},
		"a source":          {func(p *Plan) { p.Sources[0].HTTP.Raw = true }, []string{"EventSource d/es"}},
		"a subscriber":      {func(p *Plan) { p.Subscribers[0].Condition = "x" }, []string{"Trigger d/t"}},
		"a sink subscriber": {func(p *Plan) { p.Subscribers[1].Topic = "x" }, []string{"EventSource d/es"}},
	} {
		p := feed()
		tt.change(p)
		var got []string
		after := p.Hashes()
		for _, owner := range []string{"EventBus d/a", "EventBus d/b", "EventSource d/es", "Trigger d/t"} {
			if len(after) != 4 || before[owner] != after[owner] {
				got = append(got, owner)
			}
		}
		if diff := cmp.Diff(got, tt.want); diff != "" {
			t.Errorf("%s changes the hashes of (-got +want):\n%s", name, diff)
		}
	}
}

func TestSubscriptionsOfAQueueBelongToNoClient(t *testing.T) {
	for queue, want := range map[bool]bool{true: true, false: false} {
		a := Bus{NATSStreaming: &NATSStreaming{URL: "nats://n", Queue: queue, ClientID: "a"}}
		b := Bus{NATSStreaming: &NATSStreaming{URL: "nats://n", Queue: queue, ClientID: "b"}}
		if got := SameBroker(a, b); got != want {
			t.Errorf("two clients have the same subscriptions, with queue %t: %t, want %t", queue, got, want)
		}
	}
}
