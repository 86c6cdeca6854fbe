package bus

import (
	"strconv"
	"time"

	"github.com/openfunction/events/pkg/event"
)

// TypeMalformed is the type of an event that wraps bytes which were not a CloudEvent.
const TypeMalformed = "io.openfunction.events.malformed"

// Wrap returns an event that holds the bytes of a message that is not a CloudEvent, so that it can be dead-lettered and looked at.
// Its id is the message's place on the bus, so that a repeat is recognisable.
func Wrap(topic string, sequence uint64, stored time.Time, data []byte) *event.Event {
	var b event.Binary
	for _, a := range [...][2]string{
		{"specversion", "1.0"},
		{"id", topic + "/" + strconv.FormatUint(sequence, 10)},
		{"source", "/topics/" + topic},
		{"type", TypeMalformed},
		{"time", stored.UTC().Format(time.RFC3339Nano)},
	} {
		_ = b.Set(a[0], a[1]) // core attributes are always accepted
	}
	e, err := b.Event("application/octet-stream", data)
	if err != nil { // a topic that is not a URI reference
		_ = b.Set("source", "/topics")
		e, _ = b.Event("application/octet-stream", data)
	}
	return e
}
