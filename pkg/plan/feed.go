package plan

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

const (
	// SecretKey is the key of the Secret that feeds a gateway. Its value is what Encode returns.
	SecretKey = "plan.json.gz"
	// ReportPath is where a gateway's administrative port answers with a Report in JSON.
	ReportPath = "/report"

	// maxDecoded bounds what a few kilobytes of gzip may become.
	maxDecoded = 64 << 20
)

// Encode returns p as gzipped JSON. Equal plans are encoded alike. Of WaitingSources it has those of http.
func Encode(p *Plan) ([]byte, error) {
	text, err := JSON(p)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	return b.Bytes(), nil
}

// JSON is what Encode compresses.
func JSON(p *Plan) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	if err := e.Encode(p); err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	var n notes
	for _, s := range p.WaitingSources {
		if s.Kind == KindHTTP {
			n.Waiting = append(n.Waiting, note{s.Namespace, s.EventSource, s.Event, s.Why})
		}
	}
	if n.Waiting == nil {
		return b.Bytes(), nil
	}
	if err := e.Encode(n); err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	return b.Bytes(), nil
}

// notes follow the plan as a second JSON value, if there are any. A gateway may know nothing of them, or not of all: it runs the same without. So
// one that is older need not refuse the plan.
type notes struct {
	Waiting []note `json:"waiting"`
}

// note is a Source that waits.
type note struct {
	Namespace   string `json:"namespace"`
	EventSource string `json:"eventSource"`
	Event       string `json:"event"`
	Why         string `json:"why,omitempty"`
}

// Decode is the opposite of Encode, for who runs the plan. A field that this version does not know is an error: it would not do what it
// should, a route would not ask for what its callers have to show, say.
func Decode(data []byte) (*Plan, error) { return decode(data, true) }

// Recall is Decode for who only follows on the plan: what another version has added is left out. It is no error that there is no plan.
func Recall(data []byte) (*Plan, error) {
	if len(data) == 0 {
		return nil, nil
	}
	return decode(data, false)
}

func decode(data []byte, strict bool) (*Plan, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("decode plan: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxDecoded+1))
	if err != nil {
		return nil, fmt.Errorf("decode plan: %w", err)
	}
	if len(text) > maxDecoded {
		return nil, fmt.Errorf("decode plan: larger than %d bytes", maxDecoded)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if strict {
		d.DisallowUnknownFields()
	}
	p := &Plan{}
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("decode plan: %w", err)
	}
	var n notes
	if json.Unmarshal(text[d.InputOffset():], &n) != nil { // there are none, or another version wrote them otherwise
		return p, nil
	}
	for _, w := range n.Waiting {
		p.WaitingSources = append(p.WaitingSources, Source{Namespace: w.Namespace, EventSource: w.EventSource, Event: w.Event, Kind: KindHTTP, Why: w.Why})
	}
	return p, nil
}

// Report is what a gateway says of the plan that it runs. It holds no secrets.
type Report struct {
	// Error is why the latest plan is not applied; the one before goes on.
	Error string `json:"error,omitempty"`
	// Objects are the parts of the plan that is applied, by Owner, and its buses, by name.
	Objects map[string]ObjectReport `json:"objects"`
	// Retired are the IDs of the retired subscriptions that are removed.
	Retired []string `json:"retired,omitempty"`
}

// Starting is how a problem ends that is only that something has just begun.
const Starting = " is starting"

// ObjectReport is about what one object asks for.
type ObjectReport struct {
	// Hash is that of Hashes: what the gateway runs for this object.
	Hash string `json:"hash"`
	// Problems are what keeps events from flowing just now, a sentence each. Without any, they flow.
	Problems []string `json:"problems,omitempty"`
	// Failing says of targets, of a bus where it is full, that they did not take the last event that was tried, and of events that nobody will ever
	// take whole, a sentence each.
	Failing []string `json:"failing,omitempty"`
	// Losing says of a bus how its broker, as it is set up, loses events that it has taken. Events flow all the same.
	Losing string `json:"losing,omitempty"`
}

// Owner names the object that asks for s: "EventSource ns/name".
func (s *Source) Owner() string { return "EventSource " + s.Namespace + "/" + s.EventSource }

// Owner names the object that asks for s: "Trigger ns/name" or "EventSource ns/name".
func (s *Subscriber) Owner() string {
	if s.Trigger == "" {
		return "EventSource " + s.EventSource
	}
	return "Trigger " + s.Trigger
}

// Targets names where s delivers to.
func (s *Subscriber) Targets() string {
	switch {
	case s.Sink == nil:
		return "topic " + s.Topic
	case s.Topic == "":
		return s.Sink.Name
	}
	return s.Sink.Name + " and topic " + s.Topic
}

// Hashes tells by Owner what p asks of a gateway for that object, its bus included, and by name what it says of each bus. Two plans have
// the same hash for an object if and only if a gateway does the same for it.
func (p *Plan) Hashes() map[string]string {
	buses := map[string]Bus{}
	parts := map[string][]any{}
	for _, b := range p.Buses {
		buses[b.Name] = b
		parts[b.Name] = []any{b}
	}
	for i := range p.Sources {
		s := &p.Sources[i]
		parts[s.Owner()] = append(parts[s.Owner()], *s, buses[s.Bus])
	}
	for i := range p.Subscribers {
		s := p.Subscribers[i]
		s.ID, s.Key = s.key(), "" // it runs as well under an inherited name
		parts[s.Owner()] = append(parts[s.Owner()], s, buses[s.Bus])
	}
	hashes := make(map[string]string, len(parts))
	for owner, values := range parts {
		h := sha256.New()
		e := json.NewEncoder(h)
		for _, v := range values {
			_ = e.Encode(v) // no type of a plan can fail
		}
		hashes[owner] = hex.EncodeToString(h.Sum(nil)[:8])
	}
	return hashes
}

// SameBroker tells whether subscriptions of a are those of b: both lead to the same place, whatever they are called and however they are
// used. An embedded bus is a place of its own.
func SameBroker(a, b Bus) bool {
	switch {
	case a.NATSStreaming != nil && b.NATSStreaming != nil:
		n, o := a.NATSStreaming, b.NATSStreaming
		return n.URL == o.URL && n.ClusterID == o.ClusterID && n.Queue == o.Queue && n.Durable == o.Durable &&
			(n.Queue || n.ClientID == o.ClientID) // a queue's subscriptions belong to no client
	case a.JetStream != nil && b.JetStream != nil:
		return a.JetStream.URL == b.JetStream.URL
	case a.Kafka != nil && b.Kafka != nil: // a broker is of one cluster only
		return slices.ContainsFunc(a.Kafka.Brokers, func(broker string) bool { return slices.Contains(b.Kafka.Brokers, broker) })
	}
	return a.Name == b.Name && a.Embedded != nil && b.Embedded != nil
}
