package standalone

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway"
)

const shownBytes = 200

// display prints deliveries. It may be called from many goroutines at once.
type display struct {
	json bool
	now  func() time.Time

	mu  sync.Mutex
	out io.Writer
}

// Handle takes an event for a sink that has no URL. It does not print: observed does, once, and knows from where to where.
func (d *display) Handle(context.Context, *event.Event) error { return nil }

// observed prints one delivery.
func (d *display) observed(v gateway.Delivered) {
	line := d.text(v)
	if d.json {
		line = jsonLine(v)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	// A reader that has gone away must not stop deliveries.
	_, _ = io.WriteString(d.out, line+"\n")
}

func jsonLine(v gateway.Delivered) string {
	line := struct {
		Trigger     string          `json:"trigger,omitempty"`
		EventSource string          `json:"eventSource,omitempty"`
		To          string          `json:"to"`
		Event       json.RawMessage `json:"event,omitempty"`
		Error       string          `json:"error,omitempty"`
	}{Trigger: v.Trigger, EventSource: v.EventSource, To: v.To}
	if line.Trigger != "" {
		line.EventSource = ""
	}
	body, err := event.Structured(v.Event)
	if err != nil {
		line.Error = err.Error()
	} else {
		line.Event = body
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(line); err != nil {
		return fmt.Sprintf(`{"to":%q,"error":%q}`, v.To, err.Error())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func (d *display) text(v gateway.Delivered) string {
	from := v.Trigger
	if from == "" {
		from = v.EventSource
	}
	return fmt.Sprintf("%s %s -> %s  %s  %s  %s", d.now().Format("15:04:05.000"), from, v.To, v.Event.Type(), v.Event.ID(), shorten(v.Event))
}

func shorten(e *event.Event) string {
	data := e.DataEncoded
	if !utf8.Valid(data) {
		return fmt.Sprintf("<%d bytes of %s>", len(data), e.DataContentType())
	}
	cut := len(data) > shownBytes
	if cut {
		data = data[:shownBytes]
	}
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(data), "")), " ")
	if cut {
		return fmt.Sprintf("%s... (%d bytes)", text, len(e.DataEncoded))
	}
	return text
}
