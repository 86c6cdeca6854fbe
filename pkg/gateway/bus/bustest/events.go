package bustest

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
)

type sample struct {
	name        string
	version     string
	contentType string
	attributes  [][2]string
	data        []byte
}

func samples() []sample {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	large := []byte(`{"large": "` + strings.Repeat("x", 900<<10) + `"}`)
	return []sample{
		{name: "no data and no content type"},
		{name: "no data", contentType: "application/json"},
		{name: "one byte", contentType: "text/plain", data: []byte{'x'}},
		{name: "one zero byte", contentType: "application/octet-stream", data: []byte{0}},
		{name: "every byte", contentType: "application/octet-stream", data: all},
		{name: "every byte under a content type that promises JSON", contentType: "application/json", data: all},
		{name: "every byte under a content type that promises text", contentType: "text/plain; charset=utf-8", data: all},
		{name: "every byte without a content type", data: all},
		{name: "text in UTF-8", contentType: "text/plain", data: []byte("héllo, wörld ☃ 🎉 \u2028 \x00 \r\n\t end")},
		{name: "JSON with odd spacing", contentType: "application/json", data: []byte("{ \"a\" :\t1.0e2,\n\n \"b\": [ ] , \"a\": 2, \"h\": \"<&>\\u00e9\" }")},
		{name: "JSON with a trailing newline", contentType: "application/json", data: []byte("{\"a\":1}\n")},
		{name: "JSON that is null", contentType: "application/json", data: []byte("null")},
		{name: "JSON that is a string", contentType: "application/json", data: []byte(`"text"`)},
		{name: "JSON with a large number", contentType: "application/vnd.order+json", data: []byte(`{"n":123456789012345678901234567890}`)},
		{name: "900 KiB", contentType: "application/json", data: large},
		{name: "all attributes", contentType: `text/plain; charset="utf-8"`, data: []byte("x"), attributes: [][2]string{
			{"subject", `sub "ject" 100% é ☃`}, {"time", "2024-02-29T23:59:59.123456789Z"}, {"dataschema", "https://example.com/schema?a=b#c"},
			{"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, {"empty", ""}, {"odd", " spaces, %41, new\nline, é "}, {"n1", "42"},
		}},
		{name: "as many extensions as an event may have, marked and dead-lettered", attributes: mostExtensions()},
		{name: "version 0.3", version: "0.3", contentType: "application/json", data: []byte(`{"v":3}`), attributes: [][2]string{
			{"schemaurl", "https://example.com/old"}, {"subject", "s"}, {"ext", "e"},
		}},
		{name: "version 0.3 with every byte", version: "0.3", contentType: "application/octet-stream", data: all},
	}
}

// mostExtensions are those that an event may come with, and those that the data plane adds.
func mostExtensions() (all [][2]string) {
	for i := range 128 {
		all = append(all, [2]string{"x" + strconv.Itoa(i), "y"})
	}
	for _, name := range []string{
		event.KindExtension, event.ErrorDestExtension, event.ErrorCodeExtension, event.ErrorDataExtension, event.DataOmittedExtension,
	} {
		all = append(all, [2]string{name, "z"})
	}
	return all
}

func (s sample) event(id string) *event.Event {
	var b event.Binary
	version := s.version
	if version == "" {
		version = "1.0"
	}
	_ = b.Set("specversion", version)
	_ = b.Set("id", id)
	_ = b.Set("source", "https://example.com/süd?q=1 2")
	_ = b.Set("type", "bustest.sample")
	for _, a := range s.attributes {
		if err := b.Set(a[0], a[1]); err != nil {
			panic(err)
		}
	}
	e, err := b.Event(s.contentType, s.data)
	if err != nil {
		panic(err)
	}
	return e
}

// attributes returns what travels besides the data. An extension whose value is empty says nothing, and transports may drop it.
func attributes(e *event.Event) []string {
	list := []string{"datacontenttype=" + e.DataContentType()}
	event.EachAttribute(e, func(name, value string) {
		if value != "" {
			list = append(list, name+"="+value)
		}
	})
	return list
}

func eventsSurvive(h *harness) {
	b := h.bus()
	name := h.topic("e")
	r := h.subscribe(b, bus.Subscription{Name: h.name("s"), Topics: []string{name}}, nil)
	topic := b.Topic(bus.Topic{Name: name})
	for i, s := range samples() {
		sent := s.event(numbers("sample-", i+1)[i])
		before := slices.Clone(sent.Data())
		h.publish(topic, sent)
		got := r.want(i + 1)[i]
		if got.Malformed != nil {
			h.Errorf("%s: Malformed = %v, want nil", s.name, got.Malformed)
			continue
		}
		if diff := cmp.Diff(attributes(sent), attributes(got.Event)); diff != "" {
			h.Errorf("%s: attributes differ (-sent +got):\n%s", s.name, diff)
		}
		if !bytes.Equal(got.Event.Data(), s.data) {
			h.Errorf("%s: data = %.300q, want %.300q", s.name, got.Event.Data(), s.data)
		}
		if !bytes.Equal(before, sent.Data()) {
			h.Errorf("%s: publishing changed the event", s.name)
		}
		if got.Topic != name {
			h.Errorf("%s: Topic = %q, want %q", s.name, got.Topic, name)
		}
	}
}

func malformed(h *harness) {
	b := h.bus()
	name := h.topic("e")
	again := true
	r := h.subscribe(b, bus.Subscription{Name: h.name("s"), Topics: []string{name}}, func(m *bus.Message) {
		if again {
			again = false
			m.Done(errors.New("try again"))
			return
		}
		m.Done(nil)
	})
	garbage := [][]byte{[]byte("not an event \x00\xff"), []byte(`{"specversion":"1.0","id":"no type"}`), []byte("[]"), []byte("{")}
	h.f.PublishRaw(h.T, name, garbage[0])
	got := r.want(2)
	if got[0].Event.ID() != got[1].Event.ID() {
		h.Errorf("id = %q, and %q when it comes again, want equal ids", got[0].Event.ID(), got[1].Event.ID())
	}
	for i, data := range garbage[1:] {
		h.f.PublishRaw(h.T, name, data)
		r.want(i + 3)
	}
	messages := r.got()[1:]
	if len(messages) != len(garbage) {
		h.Fatalf("received %q, want the first twice and the others once", r.data())
	}
	for i, m := range messages {
		if m.Malformed == nil {
			h.Errorf("Malformed of %q = nil, want an error", garbage[i])
		}
		if err := m.Event.Validate(); err != nil || m.Event.Type() != bus.TypeMalformed {
			h.Errorf("event that wraps %q is %v, valid: %v, want a valid event of type %s", garbage[i], m.Event, err, bus.TypeMalformed)
		}
		if !bytes.Equal(m.Event.Data(), garbage[i]) {
			h.Errorf("wrapped data = %q, want %q", m.Event.Data(), garbage[i])
		}
	}
	h.publishAll(b.Topic(bus.Topic{Name: name}), "after")
	if m := r.want(6)[5]; m.Event.ID() != "after" || m.Malformed != nil {
		h.Errorf("after garbage: received %s, malformed %v, want the event that was published", m.Event.ID(), m.Malformed)
	}
}

func duplicates(h *harness) {
	b := h.bus()
	one, two := h.topic("one"), h.topic("two")
	r := h.subscribe(b, bus.Subscription{Name: h.name("s"), Topics: []string{one, two}}, nil)
	for _, t := range []bus.Topic{{Name: one}, {Name: one}, {Name: one, Origin: "a"}, {Name: one, Origin: "a"}, {Name: one, Origin: "b"}, {Name: two}, {Name: two, Origin: "a"}} {
		h.publishAll(b.Topic(t), "same")
	}
	for range 2 {
		other := newEvent("same")
		other.SetSource("/bustest/other")
		h.publish(b.Topic(bus.Topic{Name: one}), other)
	}
	h.publishAll(b.Topic(bus.Topic{Name: one}), "last")
	h.eventually("the last event is received", func() bool { return r.count("last") == 1 })
	if got, want := r.count("same"), 6; got != want {
		h.Errorf("received the id %d times, want %d: once per topic, origin and source", got, want)
	}
}

// checkStored checks what the bus says about when and in which order messages were stored.
func (h *harness) checkStored(messages []*bus.Message) {
	h.Helper()
	for i, m := range messages {
		if age := time.Since(m.Stored); age < -5*time.Second || age > patience {
			h.Errorf("%s: stored %s ago, want a moment", m.Event.ID(), age)
		}
		if i > 0 && m.Sequence <= messages[i-1].Sequence {
			h.Errorf("%s: sequence %d after %d, want a greater one", m.Event.ID(), m.Sequence, messages[i-1].Sequence)
		}
	}
}
