package mqtt

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A flood of messages without payload must not pass the bound on bytes.
func TestAllThatIsLargeCounts(t *testing.T) {
	m := &message{topic: "ab", contentType: "c", responseTopic: "d", correlationData: []byte{1}, properties: []property{{"ef", "g"}, {"h", "ij"}}}
	if got := m.size(); got != 11 {
		t.Errorf("size() = %d, want 11", got)
	}
}

func TestEvent(t *testing.T) {
	s := New(options("tcp://h", 5, 1))
	structured := `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}`
	tests := []struct {
		name string
		m    message
		want string // type, source, subject, content type, extensions, data
	}{
		{"JSON", message{topic: "a/b", payload: []byte(`{"a":1}`)},
			`io.openfunction.events.mqtt /namespaces/ns/eventsources/es/ev a/b application/json map[mqtttopic:a/b] {"a":1}`},
		{"text", message{topic: "a", payload: []byte("on")}, `io.openfunction.events.mqtt /namespaces/ns/eventsources/es/ev a text/plain; charset=utf-8 map[mqtttopic:a] on`},
		{"bytes", message{topic: "a", payload: []byte("\xff")}, "io.openfunction.events.mqtt /namespaces/ns/eventsources/es/ev a application/octet-stream map[mqtttopic:a] \xff"},
		{"content type", message{topic: "a", contentType: "image/png", payload: []byte("on")}, "io.openfunction.events.mqtt /namespaces/ns/eventsources/es/ev a image/png map[mqtttopic:a] on"},
		{"content type that no bus takes", message{topic: "a", contentType: "text/plain; é", payload: []byte("on")},
			"io.openfunction.events.mqtt /namespaces/ns/eventsources/es/ev a text/plain; charset=utf-8 map[mqttcontenttype:text/plain; é mqtttopic:a] on"},
		{"content type that is none", message{topic: "a", contentType: "png", payload: []byte("on")},
			"io.openfunction.events.mqtt /namespaces/ns/eventsources/es/ev a text/plain; charset=utf-8 map[mqttcontenttype:png mqtttopic:a] on"},
		{"properties", message{topic: "a", payload: []byte("1"), responseTopic: "r", correlationData: []byte{1}, retain: true,
			properties: []property{{"Trace-Id", "x"}, {"traceid", "y"}, {"bad", "\x01"}}},
			"io.openfunction.events.mqtt /namespaces/ns/eventsources/es/ev a application/json map[mqttcorrelationdata:AQ== mqttomitted:1 mqttpropertytraceid:x " +
				"mqttpropertytraceid2:y mqttresponsetopic:r mqttretained:true mqtttopic:a] 1"},
		{"binary mode", message{topic: "a", contentType: "text/plain", payload: []byte("hi"), properties: []property{
			{"specversion", "1.0"}, {"id", "1"}, {"source", "/s"}, {"type", "t"}, {"subject", "u"}, {"extra", "x"}, {"Trace-Id", "no attribute"}}},
			"t /s u text/plain map[extra:x] hi"},
		{"binary mode without a source", message{topic: "a", payload: []byte("1"), properties: []property{{"specversion", "1.0"}, {"id", "1"}, {"type", "t"}}},
			"io.openfunction.events.mqtt /namespaces/ns/eventsources/es/ev a application/json map[mqttmalformed:not a valid CloudEvent: attribute source is missing or empty " +
				"mqttpropertyid:1 mqttpropertyspecversion:1.0 mqttpropertytype:t mqtttopic:a] 1"},
		{"structured mode", message{topic: "a", contentType: "application/cloudevents+json; charset=utf-8", payload: []byte(structured)},
			`t /s   map[] {"a":1}`},
		{"structured mode of version 3.1.1", message{topic: "a", payload: []byte(structured)}, `t /s   map[] {"a":1}`},
		{"structured mode that is broken", message{topic: "a", contentType: "application/cloudevents+json", payload: []byte("{")},
			"io.openfunction.events.mqtt /namespaces/ns/eventsources/es/ev a text/plain; charset=utf-8 map[mqttcontenttype:application/cloudevents+json " +
				"mqttmalformed:not a valid CloudEvent: body is not a JSON object: unexpected end of JSON input mqtttopic:a] {"},
		{"another format", message{topic: "a", contentType: "application/cloudevents+avro", payload: []byte("1")},
			"io.openfunction.events.mqtt /namespaces/ns/eventsources/es/ev a application/json map[mqttcontenttype:application/cloudevents+avro " +
				"mqttmalformed:format application/cloudevents+avro is not supported mqtttopic:a] 1"},
		{"JSON with a specversion that is no CloudEvent", message{topic: "a", payload: []byte(`{"specversion":"7"}`)},
			`io.openfunction.events.mqtt /namespaces/ns/eventsources/es/ev a application/json map[mqtttopic:a] {"specversion":"7"}`},
		{"a declared type is believed", message{topic: "a", contentType: "application/json", payload: []byte(structured)},
			"io.openfunction.events.mqtt /namespaces/ns/eventsources/es/ev a application/json map[mqtttopic:a] " + structured},
		{"topic that is no subject", message{topic: "a\x01"}, "io.openfunction.events.mqtt /namespaces/ns/eventsources/es/ev  text/plain; charset=utf-8 map[mqtttopicbase64:YQE=] "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := s.event(&tt.m)
			if err := e.Validate(); err != nil {
				t.Errorf("Validate() = %v", err)
			}
			got := fmt.Sprint(e.Type(), " ", e.Source(), " ", e.Subject(), " ", e.DataContentType(), " ", e.Extensions(), " ", string(e.Data()))
			if got != tt.want {
				t.Errorf("event\n%s, want\n%s", got, tt.want)
			}
		})
	}
}

func TestTheKindIsMarked(t *testing.T) {
	o := options("tcp://h", 5, 1)
	o.Source.MarkKind = true
	e := New(o).event(&message{topic: "a"})
	if got := e.Extensions()["openfunctionkind"]; got != "mqtt" {
		t.Errorf("openfunctionkind = %v, want mqtt", got)
	}
}

func TestTooManyPropertiesAreCounted(t *testing.T) {
	m := message{topic: "a", properties: slices.Repeat([]property{{"p", "v"}}, maxProperties+3)}
	x := New(options("tcp://h", 5, 1)).event(&m).Extensions()
	if diff := cmp.Diff([]any{maxProperties + 2, "3"}, []any{len(x), x["mqttomitted"]}); diff != "" {
		t.Errorf("extensions and how many were omitted (-want +got):\n%s", diff)
	}
}

func TestEndpoints(t *testing.T) {
	for url, want := range map[string]string{
		"tcp://h":           "h:1883",
		"mqtt://h:1":        "h:1",
		"ssl://h":           "h:8883 TLS",
		"tls://[::1]":       "[::1]:8883 TLS",
		"mqtts://h:2":       "h:2 TLS",
		"ws://h":            "h:80 ws://h:80/mqtt",
		"wss://h/other?a=b": "h:443 TLS wss://h:443/other?a=b",
	} {
		e, err := newEndpoint(options(url, 5, 1).Source.MQTT)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got := e.address
		if e.tls != nil {
			got += " TLS"
		}
		if e.websocket != "" {
			got += " " + e.websocket
		}
		if got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}
