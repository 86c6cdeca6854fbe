package condition

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/openfunction/events/pkg/event"
)

// TypeMatch is the type of the events that All returns.
const TypeMatch = "io.openfunction.events.match"

// All returns one event that holds all matched ones: its data is a JSON object of them, in the CloudEvents JSON format, by the name of
// their input. Its id is a function of their sources and ids, so that a repeat of the match can be recognised.
// Trigger is ns/name, and names are the condition's Inputs, all of them. The price is a copy of every matched event.
func All(f Firing, trigger string, names []string) (*event.Event, error) {
	var data bytes.Buffer
	for x, name := range names {
		for _, m := range f.Matched {
			if m.Inputs>>x&1 == 0 {
				continue
			}
			if err := appendMember(&data, name, m.Event); err != nil {
				return nil, fmt.Errorf("merge %s: input %s: %w", trigger, name, err)
			}
		}
	}
	for _, m := range f.Matched {
		if len(names) < 64 && m.Inputs>>len(names) != 0 || m.Inputs == 0 {
			return nil, fmt.Errorf("merge %s: event %s is of an input that has no name", trigger, m.Event.ID())
		}
	}
	data.WriteByte('}')

	var b event.Binary
	for _, a := range [...][2]string{
		{"specversion", "1.0"}, {"type", TypeMatch}, {"source", "/triggers/" + trigger}, {"id", matchID(f.Matched)},
		{"time", f.Arrived.Stored.UTC().Format(time.RFC3339Nano)},
	} {
		if err := b.Set(a[0], a[1]); err != nil {
			return nil, fmt.Errorf("merge %s: %w", trigger, err)
		}
	}
	e, err := b.Event("application/json", data.Bytes())
	if err != nil {
		return nil, fmt.Errorf("merge %s: %w", trigger, err)
	}
	return e, nil
}

func appendMember(data *bytes.Buffer, name string, e *event.Event) error {
	key, err := json.Marshal(name)
	if err != nil {
		return err
	}
	value, err := event.Structured(e)
	if err != nil {
		return err
	}
	separator := byte(',')
	if data.Len() == 0 {
		separator = '{'
	}
	data.WriteByte(separator)
	data.Write(key)
	data.WriteByte(':')
	data.Write(value)
	return nil
}

// matchID hashes lengths too: no two lists of sources and ids read the same.
func matchID(matched []Arrival) string {
	h := sha256.New()
	for _, m := range matched {
		source, id := m.Event.Source(), m.Event.ID()
		fmt.Fprintf(h, "%d:%s%d:%s", len(source), source, len(id), id)
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}
