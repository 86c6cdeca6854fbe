package kafka

import (
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/event"
)

func headersOf(m *sarama.ProducerMessage) map[string]string {
	all := map[string]string{}
	for _, h := range m.Headers {
		all[string(h.Key)] = string(h.Value)
	}
	return all
}

func TestEncodeFollowsTheBinding(t *testing.T) {
	tests := []struct {
		name       string
		event      *event.Event
		key, value string
		headers    map[string]string
	}{
		{
			"a key", newEvent(t, "1", []byte("data"), "partitionkey=customer 7", "subject=é"), "customer 7", "data",
			map[string]string{
				"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/test", "ce_type": "test", "ce_subject": "é",
				"ce_partitionkey": "customer 7", "content-type": "text/plain",
			},
		},
		{
			"no key and no data", newEvent(t, "1", nil), "", "",
			map[string]string{"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/test", "ce_type": "test", "content-type": "text/plain"},
		},
	}
	for _, tt := range tests {
		m, err := encode("topic", tt.event)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.headers, headersOf(m)); diff != "" {
			t.Errorf("%s: headers differ (-want +got):\n%s", tt.name, diff)
		}
		if got := bytesOf(t, m.Key); string(got) != tt.key || (got == nil) != (tt.key == "") {
			t.Errorf("%s: key %q, want %q", tt.name, got, tt.key)
		}
		if got := bytesOf(t, m.Value); string(got) != tt.value || (got == nil) != (tt.value == "") {
			t.Errorf("%s: value %q, want %q", tt.name, got, tt.value)
		}
	}
}

func bytesOf(t *testing.T, e sarama.Encoder) []byte {
	t.Helper()
	if e == nil {
		return nil
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// An event whose data is itself a CloudEvent would be taken for that one in binary mode.
func TestAnEventInAnEventSurvives(t *testing.T) {
	inner := `{"specversion":"1.0","id":"inner","source":"/s","type":"t"}`
	var b event.Binary
	for _, a := range [][2]string{{"specversion", "1.0"}, {"id", "outer"}, {"source", "/s"}, {"type", "t"}} {
		_ = b.Set(a[0], a[1])
	}
	e, err := b.Event(event.MediaTypeStructured, []byte(inner))
	if err != nil {
		t.Fatal(err)
	}
	m, err := encode("topic", e)
	if err != nil {
		t.Fatal(err)
	}
	received := &sarama.ConsumerMessage{Value: bytesOf(t, m.Value)}
	for i := range m.Headers {
		received.Headers = append(received.Headers, &m.Headers[i])
	}
	got, err := decode(received)
	if err != nil || got.ID() != "outer" || string(got.Data()) != inner {
		t.Errorf("decode = %v, %v; want the outer event with the inner one as its data", got, err)
	}
}

func TestDecode(t *testing.T) {
	const structured = `{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":"hello"}`
	tests := []struct {
		name    string
		headers string
		value   string
		want    string // id and data, or the beginning of the error
	}{
		{"binary", "ce_specversion=1.0 ce_id=1 ce_source=/s ce_type=t content-type=text/plain", "hello", "1 hello"},
		{"binary with names in upper case", "CE_specversion=1.0 ce_ID=1 ce_source=/s ce_type=t Content-Type=text/plain", "hello", "1 hello"},
		{"structured", "content-type=application/cloudevents+json", structured, "1 hello"},
		{"structured with a character set", "content-type=application/cloudevents+json;charset=utf-8", structured, "1 hello"},
		{"structured with copies in headers", "ce_specversion=1.0 ce_id=1 ce_source=/s ce_type=t content-type=application/cloudevents+json", structured, "1 hello"},
		{"structured as Dapr sends it, without a content type", "", structured, "1 hello"},
		{"structured under a content type of JSON", "content-type=application/json", structured, "1 hello"},
		{"no event", "", "hello", "not a valid CloudEvent: neither ce_ headers nor a JSON object"},
		{"other JSON", "content-type=application/json", `{"a":1}`, "not a valid CloudEvent"},
		{"binary without an id", "ce_specversion=1.0 ce_source=/s ce_type=t", "hello", "not a valid CloudEvent: attribute id"},
	}
	for _, tt := range tests {
		m := &sarama.ConsumerMessage{Value: []byte(tt.value)}
		for _, h := range strings.Fields(tt.headers) {
			name, value, _ := strings.Cut(h, "=")
			m.Headers = append(m.Headers, &sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
		}
		e, err := decode(m)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = e.ID() + " " + string(e.Data())
		}
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: decode = %s, want %s", tt.name, got, tt.want)
		}
	}
}
