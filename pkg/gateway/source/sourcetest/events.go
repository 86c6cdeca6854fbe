package sourcetest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

// payloads returns data of every sort, by what it is.
func (h *harness) payloads() map[string][]byte {
	size := h.f.MaxData
	if size == 0 {
		size = 1 << 20
	}
	large := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(large)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	return map[string][]byte{
		"nothing":       {},
		"text":          []byte("Grüße, 世界\n"),
		"JSON":          []byte(` {"a" : 1.0, "b":[ null,"é"]} `),
		"broken JSON":   []byte(`{"a":`),
		"every byte":    every,
		"no UTF-8":      {0xff, 0xfe, 0x00, 'x'},
		"spaces":        []byte(" \t\r\n"),
		"large":         large,
		"an event's id": []byte(`{"specversion":"1.0"}`), // and not a CloudEvent for that
	}
}

func bytesSurvive(h *harness) {
	r := h.read(h.process("a"), nil)
	payloads := h.payloads()
	for _, data := range payloads {
		h.f.Produce(h.T, h.origin, data)
	}
	h.eventually("every message is taken", func() bool { return len(r.events()) >= len(payloads) })
	ids := map[string]bool{}
	for _, e := range r.events() {
		ids[e.ID()] = true
		if got, want := e.Source(), plan.SourceURI("ns", "es", "ev"); got != want {
			h.Errorf("source %q, want %q", got, want)
		}
		if got, want := e.Type(), plan.EventType(h.f.Kind); got != want {
			h.Errorf("type %q, want %q", got, want)
		}
		if err := e.Validate(); err != nil {
			h.Errorf("the event is not valid: %v", err)
		}
		if _, marked := e.Extensions()[source.KindExtension]; marked {
			h.Errorf("the event has the extension %s that nobody wanted", source.KindExtension)
		}
		if len(e.Data()) > 0 && e.DataContentType() == "" {
			h.Errorf("the event has data and no content type")
		}
	}
	if h.f.AtLeastOnce && len(ids) < len(payloads) {
		h.Errorf("%d ids for %d messages", len(ids), len(payloads))
	}
	for name, want := range payloads {
		if !h.took(r, want) {
			h.Errorf("%s, %d bytes: no event has it", name, len(want))
		}
	}
}

func (h *harness) took(r *reader, data []byte) bool {
	for _, e := range r.events() {
		if bytes.Equal(e.Data(), data) {
			return true
		}
	}
	return false
}

func kindIsMarked(h *harness) {
	p := h.process("a")
	p.Source.MarkKind = true
	r := h.read(p, nil)
	h.produce("message")
	n := 1
	if h.f.ProduceEvent != nil {
		h.f.ProduceEvent(h.T, h.origin, newEvent("marked", "text/plain", []byte("event")))
		n = 2
	}
	h.eventually("the messages are taken", func() bool { return len(r.events()) >= n })
	for _, e := range r.events() {
		if got := e.Extensions()[source.KindExtension]; got != h.f.Kind {
			h.Errorf("event %s: extension %s = %v, want %s", e.ID(), source.KindExtension, got, h.f.Kind)
		}
	}
}

func eventsSurvive(h *harness) {
	r := h.read(h.process("a"), nil)
	want := map[string]map[string]string{}
	data := map[string][]byte{}
	for i, d := range [][]byte{[]byte(`{"a": 1}`), []byte("text"), {0, 1, 0xff}, nil} {
		id := fmt.Sprint("id ", i, "/ü")
		contentType := []string{"application/json", "text/plain; charset=utf-8", "application/octet-stream", ""}[i]
		e := newEvent(id, contentType, d)
		h.f.ProduceEvent(h.T, h.origin, e)
		want[id], data[id] = attributes(e), d
	}
	h.eventually("every event is taken", func() bool { return len(r.events()) >= len(want) })
	for _, e := range r.events() {
		if diff := cmp.Diff(want[e.ID()], attributes(e)); diff != "" {
			h.Errorf("attributes of %q differ (-want +got):\n%s", e.ID(), diff)
		}
		if !bytes.Equal(e.Data(), data[e.ID()]) {
			h.Errorf("data of %q: %q, want %q", e.ID(), e.Data(), data[e.ID()])
		}
	}
}

// newEvent returns an event with attributes of every sort.
func newEvent(id, contentType string, data []byte) *event.Event {
	var b event.Binary
	for name, value := range map[string]string{
		"specversion": "1.0", "id": id, "source": "/sourcetest?a=b", "type": "sourcetest.own", "subject": "größe 1",
		"time": "2026-01-02T03:04:05.678Z", "partitionkey": "k", "ext1": "value, with a comma",
	} {
		if err := b.Set(name, value); err != nil {
			panic(err)
		}
	}
	e, err := b.Event(contentType, data)
	if err != nil {
		panic(err)
	}
	return e
}

func attributes(e *event.Event) map[string]string {
	all := map[string]string{}
	event.EachAttribute(e, func(name, value string) { all[name] = value })
	all["datacontenttype"] = e.DataContentType()
	return all
}

func orderIsKept(h *harness) {
	var busy atomic.Int32
	failed := map[string]bool{} // by one goroutine at a time, or the test fails
	r := h.read(h.process("a"), func(_ context.Context, e *event.Event) error {
		if busy.Add(1) > 1 {
			h.Error("two events of one order are handed on at once")
		}
		defer busy.Add(-1)
		if data := string(e.Data()); h.f.AtLeastOnce && (data == "m3" || data == "m50") && !failed[data] {
			failed[data] = true
			return errAgain
		}
		return nil
	})
	want := numbers("m", 100)
	h.produce(want...)
	h.await(want, r)
	var first []string
	seen := map[string]bool{}
	for _, d := range r.data() {
		if !seen[d] {
			seen[d] = true
			first = append(first, d)
		}
	}
	if diff := cmp.Diff(want, first); diff != "" {
		h.Errorf("the order differs (-want +got):\n%s", diff)
	}
}
