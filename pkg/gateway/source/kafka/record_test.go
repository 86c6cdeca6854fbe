package kafka

import (
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/plan"
)

var at = time.Date(2024, 2, 29, 12, 30, 0, 250_000_000, time.UTC)

func message(key, value []byte, headers ...string) *sarama.ConsumerMessage {
	m := &sarama.ConsumerMessage{Topic: "orders", Partition: 3, Offset: 1 << 40, Timestamp: at, Key: key, Value: value}
	for i := 0; i < len(headers); i += 2 {
		m.Headers = append(m.Headers, &sarama.RecordHeader{Key: []byte(headers[i]), Value: []byte(headers[i+1])})
	}
	return m
}

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

// with returns the wrapped record's attributes besides those of every one. A name with "-" is removed.
func with(pairs ...string) map[string]string {
	m := map[string]string{
		"specversion": "1.0", "id": "orders/3/1099511627776/AbCdEfGh", "source": "/namespaces/ns/eventsources/es/ev",
		"type": "io.openfunction.events.kafka", "time": "2024-02-29T12:30:00.25Z",
		"kafkatopic": "orders", "kafkapartition": "3", "kafkaoffset": "1099511627776", "kafkatimestamp": "2024-02-29T12:30:00.25Z",
	}
	for i := 0; i < len(pairs); i += 2 {
		if name, ok := strings.CutPrefix(pairs[i], "-"); ok {
			delete(m, name)
			continue
		}
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func ce(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func TestEvent(t *testing.T) {
	binary := []string{"ce_specversion", "1.0", "ce_id", "a1", "ce_source", "/shop", "ce_type", "created"}
	long := strings.Repeat("x", source.MaxValueSize+1)
	tests := []struct {
		name    string
		message *sarama.ConsumerMessage
		mark    bool
		want    map[string]string
	}{{
		name:    "JSON without a content type is JSON",
		message: message(nil, []byte(`{"a":1}`)),
		want:    with("datacontenttype", "application/json", "data", `{"a":1}`),
	}, {
		name:    "text is text",
		message: message(nil, []byte("hello, wörld\n")),
		want:    with("datacontenttype", "text/plain; charset=utf-8", "data", "hello, wörld\n"),
	}, {
		name:    "what is not UTF-8 is bytes, also when it looks like JSON",
		message: message(nil, []byte("\"\xff\"")),
		want:    with("datacontenttype", "application/octet-stream", "data", "\"\xff\""),
	}, {
		name:    "UTF-8 with control characters is bytes",
		message: message(nil, []byte("a\x00b")),
		want:    with("datacontenttype", "application/octet-stream", "data", "a\x00b"),
	}, {
		name:    "a content type is believed, whatever the case of its header",
		message: message(nil, []byte("{}"), "Content-Type", "application/x-thing; v=1"),
		want:    with("datacontenttype", "application/x-thing; v=1", "data", "{}"),
	}, {
		name:    "a content type that is none is a header like others",
		message: message(nil, []byte("{}"), "content-type", "json"),
		want:    with("datacontenttype", "application/json", "data", "{}", "kafkaheadercontenttype", "json"),
	}, {
		name:    "so is one that no bus takes",
		message: message(nil, []byte("{}"), "content-type", "text/plain; é"),
		want:    with("datacontenttype", "application/json", "data", "{}", "kafkaheadercontenttype", "text/plain; é"),
	}, {
		name:    "a tombstone has no data and no content type",
		message: message([]byte("k"), nil),
		want:    with("partitionkey", "k"),
	}, {
		name:    "an empty value has no data but a content type",
		message: message(nil, []byte{}),
		want:    with("datacontenttype", "text/plain; charset=utf-8"),
	}, {
		name:    "a key that is not text is base64",
		message: message([]byte{0, 255}, []byte("1")),
		want:    with("datacontenttype", "application/json", "data", "1", "kafkakeybase64", "AP8="),
	}, {
		name:    "an empty key is a key",
		message: message([]byte{}, nil),
		want:    with("partitionkey", ""),
	}, {
		name:    "headers become extensions",
		message: message(nil, nil, "X-Trace_Id", "t 1", "bin", "\x00\x01"),
		want:    with("kafkaheaderxtraceid", "t 1", "kafkaheaderbinbase64", "AAE="),
	}, {
		name:    "headers whose names come out equal are numbered in their order",
		message: message(nil, nil, "a-b", "1", "ab", "2", "ab2", "3", "AB", "4", "--", "5"),
		want: with("kafkaheaderab", "1", "kafkaheaderab2", "2", "kafkaheaderab22", "3", "kafkaheaderab3", "4",
			"kafkaheader", "5"),
	}, {
		name:    "keys and headers that are too long are counted",
		message: message([]byte(long), nil, "a", long, strings.Repeat("n", maxNameSize+1), "1", "b", "2"),
		want:    with("kafkaheaderb", "2", "kafkaomitted", "3"),
	}, {
		name: "a record without a timestamp makes an event without a time",
		message: func() *sarama.ConsumerMessage {
			m := message(nil, nil)
			m.Timestamp = time.UnixMilli(-1)
			return m
		}(),
		want: with("-time", "", "-kafkatimestamp", ""),
	}, {
		name:    "two kinds of one name are told apart",
		message: message(nil, nil),
		mark:    true,
		want:    with("openfunctionkind", "kafka"),
	}, {
		name:    "a binary CloudEvent is kept as it is",
		message: message([]byte("k"), []byte("<a/>"), append(binary, "content-type", "application/xml", "ce_subject", "s", "ce_myext", "ä", "other", "x")...),
		want: ce("specversion", "1.0", "id", "a1", "source", "/shop", "type", "created", "subject", "s", "myext", "ä",
			"datacontenttype", "application/xml", "data", "<a/>"),
	}, {
		name:    "a binary CloudEvent gets its kind only",
		message: message([]byte("k"), nil, binary...),
		mark:    true,
		want:    ce("specversion", "1.0", "id", "a1", "source", "/shop", "type", "created", "openfunctionkind", "kafka"),
	}, {
		name: "a structured CloudEvent is kept as it is",
		message: message(nil, []byte(`{"specversion":"1.0","id":"a2","source":"/shop","type":"created","x":7,"datacontenttype":"application/json","data":{"n": 1}}`),
			"content-type", "application/cloudevents+json; charset=UTF-8"),
		want: ce("specversion", "1.0", "id", "a2", "source", "/shop", "type", "created", "x", "7",
			"datacontenttype", "application/json", "data", `{"n": 1}`),
	}, {
		name:    "a binary CloudEvent without a type is wrapped",
		message: message(nil, []byte("1"), "ce_specversion", "1.0", "ce_id", "a1", "ce_source", "/shop"),
		want: with("datacontenttype", "application/json", "data", "1",
			"kafkaheadercespecversion", "1.0", "kafkaheaderceid", "a1", "kafkaheadercesource", "/shop",
			"kafkamalformed", "not a valid CloudEvent: attribute type is missing or empty"),
	}, {
		name:    "a binary CloudEvent with an attribute that is not text is wrapped",
		message: message(nil, nil, append(binary, "ce_subject", "\xff")...),
		want: with("kafkaheadercespecversion", "1.0", "kafkaheaderceid", "a1", "kafkaheadercesource", "/shop", "kafkaheadercetype", "created",
			"kafkaheadercesubjectbase64", "/w==", "kafkamalformed", "header ce_subject is not text"),
	}, {
		name:    "a structured CloudEvent that is broken is wrapped, and not called one",
		message: message(nil, []byte(`{`), "content-type", "application/cloudevents+json"),
		want: with("datacontenttype", "text/plain; charset=utf-8", "data", "{", "kafkaheadercontenttype", "application/cloudevents+json",
			"kafkamalformed", "not a valid CloudEvent: body is not a JSON object: unexpected end of JSON input"),
	}, {
		name:    "a structured tombstone is wrapped",
		message: message(nil, nil, "content-type", "application/cloudevents+json"),
		want: with("kafkaheadercontenttype", "application/cloudevents+json",
			"kafkamalformed", "not a valid CloudEvent: body is not a JSON object: unexpected end of JSON input"),
	}, {
		name:    "a batch is wrapped: the binding has none",
		message: message(nil, []byte(`[]`), "content-type", "application/cloudevents-batch+json"),
		want: with("datacontenttype", "application/json", "data", "[]", "kafkaheadercontenttype", "application/cloudevents-batch+json",
			"kafkamalformed", "format application/cloudevents-batch+json is not supported"),
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := New(Options{Source: plan.Source{Namespace: "ns", EventSource: "es", Event: "ev", Kind: "kafka", MarkKind: tt.mark}})
			e := s.event(tt.message, "AbCdEfGh")
			if diff := cmp.Diff(tt.want, flat(e)); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
			if err := e.Validate(); err != nil {
				t.Errorf("event is not valid: %v", err)
			}
		})
	}
}

func TestManyHeadersStayAnEventThatCanBeRead(t *testing.T) {
	m := message([]byte("k"), []byte("x"))
	for range 500 {
		m.Headers = append(m.Headers, &sarama.RecordHeader{Key: []byte("h"), Value: []byte("v")})
	}
	e := New(Options{Source: plan.Source{Kind: "kafka", MarkKind: true}}).event(m, "")
	if got, want := e.Extensions()["kafkaomitted"], any("436"); got != want {
		t.Errorf("kafkaomitted = %v, want %v", got, want)
	}
	body, err := event.Structured(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := event.ParseStructured(body); err != nil {
		t.Errorf("ParseStructured() = %v", err)
	}
}
