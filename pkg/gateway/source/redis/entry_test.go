package redis

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
)

// flat is an event as a transport would carry it.
func flat(e *event.Event) map[string]string {
	got := map[string]string{}
	event.EachAttribute(e, func(name, value string) { got[name] = value })
	if ct := e.DataContentType(); ct != "" {
		got["datacontenttype"] = ct
	}
	if e.Data() != nil {
		got["data"] = string(e.Data())
	}
	return got
}

// with returns the attributes of a wrapped entry besides those of every one. A name with an empty value is removed.
func with(pairs ...string) map[string]string {
	m := map[string]string{
		"specversion": "1.0", "id": "orders/1709209830250-7", "source": "/namespaces/ns/eventsources/es/ev",
		"type": "io.openfunction.events.redis", "time": "2024-02-29T12:30:30.25Z",
		"redisstream": "orders", "redisentry": "1709209830250-7",
	}
	for i := 0; i < len(pairs); i += 2 {
		if m[pairs[i]] = pairs[i+1]; pairs[i+1] == "" {
			delete(m, pairs[i])
		}
	}
	return m
}

const cloudEvent = `{"specversion":"1.0","id":"a1","source":"/shop","type":"created","myext":"x","datacontenttype":"application/json","data":{"n": 1}}`

func ce(pairs ...string) map[string]string {
	m := map[string]string{
		"specversion": "1.0", "id": "a1", "source": "/shop", "type": "created", "myext": "x",
		"datacontenttype": "application/json", "data": `{"n": 1}`,
	}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func TestEntry(t *testing.T) {
	tests := []struct {
		name   string
		id     string
		fields map[string]any
		mark   bool
		want   map[string]string
	}{{
		name:   "the field data alone is the data",
		fields: map[string]any{"data": `{"a":1}`},
		want:   with("datacontenttype", "application/json", "data", `{"a":1}`),
	}, {
		name:   "data that is no JSON is text",
		fields: map[string]any{"data": "grün\n"},
		want:   with("datacontenttype", "text/plain; charset=utf-8", "data", "grün\n"),
	}, {
		name:   "data that is no UTF-8 is bytes",
		fields: map[string]any{"data": "\xff"},
		want:   with("datacontenttype", "application/octet-stream", "data", "\xff"),
	}, {
		name:   "empty data is none",
		fields: map[string]any{"data": ""},
		want:   with("datacontenttype", "text/plain; charset=utf-8"),
	}, {
		name:   "fields are a JSON object",
		fields: map[string]any{"order": "7", "name": "<b>"},
		want:   with("datacontenttype", "application/json", "data", `{"name":"<b>","order":"7"}`),
	}, {
		name:   "data beside other fields is one of them",
		fields: map[string]any{"data": "x", "metadata": "y"},
		want:   with("datacontenttype", "application/json", "data", `{"data":"x","metadata":"y"}`),
	}, {
		name:   "the field event that is no CloudEvent is a field",
		fields: map[string]any{"event": "created"},
		want:   with("datacontenttype", "application/json", "data", `{"event":"created"}`),
	}, {
		name:   "values and names that are no UTF-8 are base64",
		fields: map[string]any{"a": "\xff", "\xfe": "b"},
		want:   with("datacontenttype", "application/json", "data", `{"a":{"base64":"/w=="},"base64:/g==":"b"}`),
	}, {
		name:   "an id that is no time makes no time",
		id:     "5-1",
		fields: map[string]any{"data": "1"},
		want:   with("id", "orders/5-1", "redisentry", "5-1", "time", "", "datacontenttype", "application/json", "data", "1"),
	}, {
		name:   "a CloudEvent in the field data is kept as it is",
		fields: map[string]any{"data": cloudEvent},
		want:   ce(),
	}, {
		name:   "a CloudEvent in the field event is kept as it is",
		fields: map[string]any{"event": cloudEvent},
		want:   ce(),
	}, {
		name:   "a CloudEvent that Dapr published is kept as it is",
		fields: map[string]any{"data": cloudEvent, "metadata": `{"ttl":"3"}`},
		want:   ce(),
	}, {
		name:   "a CloudEvent gets its kind only",
		fields: map[string]any{"data": cloudEvent},
		mark:   true,
		want:   ce("openfunctionkind", "redis"),
	}, {
		name:   "two kinds of one name are told apart",
		fields: map[string]any{"data": "1"},
		mark:   true,
		want:   with("datacontenttype", "application/json", "data", "1", "openfunctionkind", "redis"),
	}, {
		name:   "what claims to be a CloudEvent and is none is wrapped",
		fields: map[string]any{"data": `{"specversion":"1.0"}`},
		want: with("datacontenttype", "application/json", "data", `{"specversion":"1.0"}`,
			"redismalformed", "not a valid CloudEvent: attribute id is missing or empty"),
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options("stream", "orders", "127.0.0.1:1")
			o.Source.MarkKind = tt.mark
			if tt.id == "" {
				tt.id = "1709209830250-7"
			}
			e := New(o).entry(redis.XMessage{ID: tt.id, Values: tt.fields})
			if diff := cmp.Diff(tt.want, flat(e)); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
			if err := e.Validate(); err != nil {
				t.Errorf("event is not valid: %v", err)
			}
		})
	}
}

func TestElementAndMessage(t *testing.T) {
	s := New(Options{Source: plan.Source{Namespace: "ns", EventSource: "es", Event: "ev", Kind: "redis", Redis: &plan.Redis{List: "jobs"}}})
	all := func(pairs ...string) map[string]string {
		return with(append([]string{"redisstream", "", "redisentry", "", "time", ""}, pairs...)...)
	}
	tests := []struct {
		name  string
		event *event.Event
		want  map[string]string
	}{
		{"an element", s.element("7"), all("redislist", "jobs", "datacontenttype", "application/json", "data", "7")},
		{"an element that is a CloudEvent", s.element(cloudEvent), ce()},
		{"a message", s.message(&redis.Message{Channel: "news", Payload: "a b"}),
			all("redischannel", "news", "subject", "news", "datacontenttype", "text/plain; charset=utf-8", "data", "a b")},
		{"a message of a channel whose name is no text", s.message(&redis.Message{Channel: "a\x00", Payload: "1"}),
			all("datacontenttype", "application/json", "data", "1")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := flat(tt.event)
			if got["id"] == "" {
				t.Error("the event has no id")
			}
			tt.want["id"] = got["id"] // it is random, or the CloudEvent's
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
			if err := tt.event.Validate(); err != nil {
				t.Errorf("event is not valid: %v", err)
			}
		})
	}
	if a, b := s.element("x"), s.element("x"); a.ID() == b.ID() {
		t.Error("two equal elements have one id")
	}
}
