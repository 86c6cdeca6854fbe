package standalone

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway"
)

func newEvent(t *testing.T, contentType, data string) *event.Event {
	t.Helper()
	var b event.Binary
	for _, a := range [][2]string{{"specversion", "1.0"}, {"id", "1"}, {"source", "/s"}, {"type", "t"}} {
		if err := b.Set(a[0], a[1]); err != nil {
			t.Fatal(err)
		}
	}
	e, err := b.Event(contentType, []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// running runs d until the test is over.
func running(t *testing.T, d *display) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func TestDisplay(t *testing.T) {
	tests := []struct {
		name     string
		v        gateway.Delivered
		json     string
		text     string
		mimeType string
		data     string
	}{
		{"a trigger's delivery of JSON over several lines",
			gateway.Delivered{Trigger: "ns/t", To: "sink ns/s"},
			`{"trigger":"ns/t","to":"sink ns/s","event":{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"application/json","data":{"a":"<b>"}}}`,
			`15:04:05.006 ns/t -> sink ns/s  t  1  { "a": "<b>" }`,
			"application/json", "{\n  \"a\": \"<b>\"\n}"},
		{"an EventSource's own sink",
			gateway.Delivered{EventSource: "ns/es", To: "deadletter topic d"},
			`{"eventSource":"ns/es","to":"deadletter topic d","event":{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":"hello"}}`,
			"15:04:05.006 ns/es -> deadletter topic d  t  1  hello",
			"text/plain", "hello"},
		{"bytes that are not text",
			gateway.Delivered{Trigger: "ns/t", To: "topic m"},
			`{"trigger":"ns/t","to":"topic m","event":{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"image/png","data_base64":"/w=="}}`,
			"15:04:05.006 ns/t -> topic m  t  1  <1 bytes of image/png>",
			"image/png", "\xff"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.v.Event = newEvent(t, tt.mimeType, tt.data)
			for _, asJSON := range []bool{true, false} {
				var out bytes.Buffer
				d := newDisplay(&out, asJSON)
				d.now = func() time.Time { return time.Date(2006, 1, 2, 15, 4, 5, 6e6, time.UTC) }
				running(t, d)
				d.observed(tt.v)
				want := tt.text + "\n"
				if asJSON {
					want = tt.json + "\n"
				}
				if got := out.String(); got != want {
					t.Errorf("json %t: got\n%swant\n%s", asJSON, got, want)
				}
			}
		})
	}
}

func TestLongDataIsShortened(t *testing.T) {
	got := shorten(newEvent(t, "text/plain", strings.Repeat("é", 500)))
	if want := strings.Repeat("é", 100) + "... (1000 bytes)"; got != want {
		t.Errorf("shorten() = %q, want %q", got, want)
	}
}

// slow is a writer that takes what it is given in pieces, each with a write of its own.
type slow struct{ output }

func (s *slow) Write(p []byte) (int, error) {
	for i := range p {
		runtime.Gosched()
		if _, err := s.output.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func TestLinesOfManyDeliveriesDoNotMix(t *testing.T) {
	var out slow
	d := newDisplay(&out, true)
	running(t, d)
	v := gateway.Delivered{Trigger: "ns/t", To: "topic m", Event: newEvent(t, "text/plain", strings.Repeat("x", 300))}
	var deliveries sync.WaitGroup
	for range 8 {
		deliveries.Go(func() {
			for range 25 {
				d.observed(v)
			}
		})
	}
	deliveries.Wait()
	if want := strings.Repeat(jsonLine(v)+"\n", 200); out.String() != want {
		t.Errorf("%d bytes were printed, want %d: %.400s", len(out.String()), len(want), out.String())
	}
}

func TestNobodyWaitsForAReaderThatWasGivenUp(t *testing.T) {
	r, w := io.Pipe() // a write to it waits for a read
	d := newDisplay(w, true)
	running(t, d)
	v := gateway.Delivered{Trigger: "ns/t", To: "topic m", Event: newEvent(t, "text/plain", "x")}
	var deliveries sync.WaitGroup
	for range 20 {
		deliveries.Go(func() { d.observed(v) })
	}
	for !d.blocked(0) {
		time.Sleep(time.Millisecond)
	}
	if err := d.Handle(t.Context(), v.Event); err != nil {
		t.Errorf("Handle() = %v while the reader may still read", err)
	}
	if !d.giveUp() || d.giveUp() {
		t.Error("giveUp() is not true at first and then false")
	}
	deliveries.Wait()
	if err := d.Handle(t.Context(), v.Event); err == nil {
		t.Error("Handle() takes an event that nobody will see")
	}
	_ = r.Close()
}

func TestTheTerminalObeysNoEvent(t *testing.T) {
	if got := shorten(newEvent(t, "text/plain", "a\x1b[2Jb\tc")); got != "a\ufffd[2Jb c" {
		t.Errorf("shorten() = %q", got)
	}
}
