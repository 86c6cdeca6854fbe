package standalone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway"
)

const (
	shownBytes = 200
	// maxBatch is about how much is written at once.
	maxBatch = 64 << 10
)

// display prints deliveries, each as one line that no other interrupts. It may be called from many goroutines at once.
//
// A delivery counts as made once its line is written. A reader that is slow therefore slows down deliveries, and one that does not read
// at all stops them: what is under way is bounded by the subscriptions, and the rest waits on the bus, where it is bounded too.
type display struct {
	json bool
	now  func() time.Time
	out  io.Writer
	// failed is called with the first error of out. It may be nil.
	failed func(error)

	lines   chan line
	stuck   chan struct{} // closed by giveUp: nobody waits for the reader any more
	once    sync.Once
	writing atomic.Int64 // when the write under way began, in Unix nanoseconds, or zero
}

// line is what one delivery waits for.
type line struct {
	text string
	done chan struct{}
}

// newDisplay returns a display that prints nothing until its run is called.
func newDisplay(out io.Writer, asJSON bool) *display {
	return &display{json: asJSON, now: time.Now, out: out, lines: make(chan line), stuck: make(chan struct{})}
}

var errUnread = errors.New("nobody reads stdout")

// Handle takes an event for a sink that has no URL. It does not print: observed does, once, and knows from where to where.
func (d *display) Handle(context.Context, *event.Event) error {
	select {
	case <-d.stuck:
		return errUnread // so that it stays on its bus
	default:
		return nil
	}
}

// observed prints one delivery. It returns once the line is written, or given up.
func (d *display) observed(v gateway.Delivered) {
	l := line{text: d.text(v), done: make(chan struct{})}
	if d.json {
		l.text = jsonLine(v)
	}
	select {
	case d.lines <- l:
	case <-d.stuck:
		return
	}
	select {
	case <-l.done:
	case <-d.stuck:
	}
}

// run writes lines until ctx is done. Nobody may call observed after that.
func (d *display) run(ctx context.Context) {
	var batch bytes.Buffer
	var waiting []chan struct{}
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-d.lines:
			batch.WriteString(l.text + "\n")
			waiting = append(waiting, l.done)
		}
		// What has come meanwhile is written together: a write costs more than a line.
		for more := true; more && batch.Len() < maxBatch; {
			select {
			case l := <-d.lines:
				batch.WriteString(l.text + "\n")
				waiting = append(waiting, l.done)
			default:
				more = false
			}
		}
		d.writing.Store(time.Now().UnixNano())
		if _, err := d.out.Write(batch.Bytes()); err != nil && d.failed != nil {
			d.failed(err)
			d.failed = nil
		}
		d.writing.Store(0)
		for _, done := range waiting {
			close(done)
		}
		batch.Reset()
		waiting = waiting[:0]
	}
}

// giveUp ends the waiting for the reader: deliveries under way go on without their lines, and the display takes no others. It tells whether they waited for them before.
func (d *display) giveUp() (first bool) {
	d.once.Do(func() {
		close(d.stuck)
		first = true
	})
	return first
}

// blocked tells whether the write under way has taken longer than t.
func (d *display) blocked(t time.Duration) bool {
	since := d.writing.Load()
	return since != 0 && time.Since(time.Unix(0, since)) > t
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
	text = strings.Map(visible, text)
	if cut {
		return fmt.Sprintf("%s... (%d bytes)", text, len(e.DataEncoded))
	}
	return text
}

// visible replaces what a terminal would obey instead of showing it.
func visible(r rune) rune {
	if unicode.IsControl(r) {
		return unicode.ReplacementChar
	}
	return r
}
