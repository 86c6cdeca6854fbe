package event_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/event"
)

// attributes are what an event carries beside its data, as text.
func attributes(e *event.Event) map[string]string {
	got := map[string]string{}
	event.EachAttribute(e, func(name, value string) { got[name] = value })
	if t := e.DataContentType(); t != "" {
		got["datacontenttype"] = t
	}
	return got
}

func newEvent(t testing.TB, contentType string, data []byte, pairs ...string) *event.Event {
	t.Helper()
	var b event.Binary
	pairs = append([]string{"specversion", "1.0", "id", "1", "source", "/s", "type", "t"}, pairs...)
	for i := 0; i < len(pairs); i += 2 {
		if err := b.Set(pairs[i], pairs[i+1]); err != nil {
			t.Fatalf("Set(%q, %q) = %v", pairs[i], pairs[i+1], err)
		}
	}
	e, err := b.Event(contentType, data)
	if err != nil {
		t.Fatalf("Event(%q) = %v", contentType, err)
	}
	return e
}

func TestDataSurvivesStructuredMode(t *testing.T) {
	deep := strings.Repeat("[", 9500) + strings.Repeat("]", 9500)
	payloads := map[string]string{
		"JSON object":             `{"a": [1, 2.50, "é <>&"] , "b":null}`,
		"JSON string":             `"text"`,
		"JSON null":               `null`,
		"JSON with a line feed":   "{}\n",
		"JSON nested very deep":   deep,
		"broken JSON":             `{"a":`,
		"text":                    "hello \"world\"\t\\ \u2028 \x00 \x7f é 🎉",
		"text that looks escaped": `\u0041 %41 &amp;`,
		"bytes":                   "\x00\xff\xfe\x80",
		"XML":                     "<a b='c'>&amp;</a>",
		"base64":                  "aGVsbG8=",
		"one space":               " ",
		"nothing":                 "",
	}
	contentTypes := []string{
		"", "application/json", "Application/JSON; charset=utf-8", "text/json", "application/vnd.acme+json", "text/x+json", "text/plain",
		"Text/Plain", "text/plain; charset=latin1", "application/xml", "application/octet-stream", "image/png",
	}
	for name, payload := range payloads {
		for _, contentType := range contentTypes {
			for _, version := range []string{"1.0", "0.3"} {
				t.Run(fmt.Sprintf("%s as %q in %s", name, contentType, version), func(t *testing.T) {
					e := newEvent(t, contentType, []byte(payload), "specversion", version)
					body, err := event.Structured(e)
					if err != nil {
						t.Fatalf("Structured() = %v", err)
					}
					back, err := event.ParseStructured(body)
					if err != nil {
						t.Fatalf("ParseStructured(%.200s) = %v", body, err)
					}
					if got := string(back.Data()); got != payload {
						t.Errorf("data = %.200q, want %.200q; the body was %.300s", got, payload, body)
					}
					if diff := cmp.Diff(attributes(e), attributes(back)); diff != "" {
						t.Errorf("attributes (-want +got):\n%s", diff)
					}
					again, err := event.Structured(back)
					if err != nil || !bytes.Equal(again, body) {
						t.Errorf("written again = %.200s, %v, want %.200s", again, err, body)
					}
				})
			}
		}
	}
}

func TestStructuredIsReadable(t *testing.T) {
	tests := []struct {
		name string
		e    *event.Event
		want string
	}{{
		name: "JSON data is part of the document",
		e:    newEvent(t, "application/json", []byte(`{"a":1}`), "subject", "s", "time", "2026-01-02T03:04:05.6+01:00", "zone", "z", "a1", "é\n\""),
		want: `{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"s","time":"2026-01-02T02:04:05.6Z",` +
			`"datacontenttype":"application/json","a1":"é\n\"","zone":"z","data":{"a":1}}`,
	}, {
		name: "text is a string, and nothing in it is escaped for HTML",
		e:    newEvent(t, "text/plain", []byte("<a> & b\x01")),
		want: `{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":"<a> & b\u0001"}`,
	}, {
		name: "bytes are base64",
		e:    newEvent(t, "image/png", []byte{0, 255}),
		want: `{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"image/png","data_base64":"AP8="}`,
	}, {
		name: "bytes of version 0.3 are base64 and say so",
		e:    newEvent(t, "image/png", []byte{0, 255}, "specversion", "0.3", "schemaurl", "a/b"),
		want: `{"specversion":"0.3","id":"1","source":"/s","type":"t","schemaurl":"a/b","datacontenttype":"image/png",` +
			`"datacontentencoding":"base64","data":"AP8="}`,
	}, {
		name: "a string under a content type that ends in +json is base64, since readers differ on its quotes",
		e:    newEvent(t, "application/x+json", []byte(`"a"`)),
		want: `{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"application/x+json","data_base64":"ImEi"}`,
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := event.Structured(tt.e)
			if err != nil {
				t.Fatalf("Structured() = %v", err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("Structured() (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := event.Structured(&event.Event{}); !errors.Is(err, event.ErrMalformed) {
		t.Errorf("Structured of an event without attributes = %v, want ErrMalformed", err)
	}
}

func TestExtensionsKeepTheirType(t *testing.T) {
	body := `{"specversion":"1.0","id":"1","source":"/s","type":"t","flag":true,"nothing":null,"number":-2147483648,"text":"1"}`
	e, err := event.ParseStructured([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"flag": true, "number": int32(-2147483648), "text": "1"}
	if diff := cmp.Diff(want, e.Extensions()); diff != "" {
		t.Errorf("extensions (-want +got):\n%s", diff)
	}
	got, err := event.Structured(e)
	if want := strings.Replace(body, `"nothing":null,`, "", 1); err != nil || string(got) != want {
		t.Errorf("Structured() = %s, %v, want %s", got, err, want)
	}
}

func TestParseStructuredRejects(t *testing.T) {
	with := func(members string) string {
		return `{"specversion":"1.0","id":"1","source":"/s","type":"t",` + members + `}`
	}
	tests := []struct{ name, body, says string }{
		{"nothing", "", "not a JSON object"},
		{"null", "null", "specversion is missing"},
		{"an array", "[]", "not a JSON object"},
		{"two documents", "{}{}", "not a JSON object"},
		{"an unknown version", `{"specversion":"1.1","id":"1","source":"/s","type":"t"}`, `"1.1"`},
		{"a missing id", `{"specversion":"1.0","source":"/s","type":"t"}`, "id is missing"},
		{"a blank type", `{"specversion":"1.0","id":"1","source":"/s","type":" "}`, "type is missing"},
		{"an id that is a number", `{"specversion":"1.0","id":1,"source":"/s","type":"t"}`, "id: want a string"},
		{"a source that is no URI reference", `{"specversion":"1.0","id":"1","source":":","type":"t"}`, "source"},
		{"an extension that is an object", with(`"ext":{}`), "want a string, an integer or a boolean"},
		{"an extension that is a fraction", with(`"ext":1.5`), "32 bits"},
		{"an extension above 32 bits", with(`"ext":2147483648`), "32 bits"},
		{"an extension with a hyphen", with(`"my-ext":""`), "my-ext"},
		{"both kinds of data", with(`"data":1,"data_base64":"AA=="`), "both"},
		{"broken base64", with(`"data_base64":"*"`), "data_base64"},
		{"base64 that is a number", with(`"data_base64":1`), "want a string"},
		{"a relative dataschema", with(`"dataschema":"a"`), "dataschema"},
		{"a time that is none", with(`"time":"yesterday"`), "RFC 3339"},
		{"a time whose UTC year has five digits", with(`"time":"9999-12-31T23:59:59-01:00"`), "RFC 3339"},
		{"a content type that is none", with(`"datacontenttype":"a b"`), "content type"},
		{"a content type with a line feed", with(`"datacontenttype":"a/b;\nx: y"`), "content type"},
		{"an encoding of 0.3 that does not exist", `{"specversion":"0.3","id":"1","source":"/s","type":"t","datacontentencoding":"gzip","data":""}`, "gzip"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := event.ParseStructured([]byte(tt.body))
			if !errors.Is(err, event.ErrMalformed) || !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("ParseStructured(%s) = %v, want ErrMalformed that says %q", tt.body, err, tt.says)
			}
		})
	}
}

func TestParseBatch(t *testing.T) {
	one, _ := event.Structured(newEvent(t, "text/plain", []byte("a")))
	two, _ := event.Structured(newEvent(t, "image/png", []byte{0xff}, "id", "2"))
	tests := []struct {
		name, body string
		want       []string
		says       string
	}{
		{name: "two events in order", body: fmt.Sprintf("[%s,\n%s]", one, two), want: []string{"1:a", "2:\xff"}},
		{name: "no events", body: " [ ] "},
		{name: "one of them is malformed", body: fmt.Sprintf(`[%s,{"id":"2"}]`, one), says: "event 1 of the batch: attribute specversion is missing"},
		{name: "one of them is null", body: `[null]`, says: "event 0"},
		{name: "one event that is not in an array", body: string(one), says: "not a JSON array"},
		{name: "null", body: "null", says: "not a JSON array"},
		{name: "nothing", body: "", says: "not a JSON array"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			events, err := event.ParseBatch([]byte(tt.body))
			if tt.says != "" {
				if !errors.Is(err, event.ErrMalformed) || !strings.Contains(fmt.Sprint(err), tt.says) {
					t.Errorf("ParseBatch() = %v, want ErrMalformed that says %q", err, tt.says)
				}
				return
			}
			var got []string
			for _, e := range events {
				got = append(got, e.ID()+":"+string(e.Data()))
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("ParseBatch() = %v, events (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestParsedDataIsItsOwn(t *testing.T) {
	body := []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}`)
	e, err := event.ParseStructured(body)
	if err != nil {
		t.Fatal(err)
	}
	clear(body)
	if got, want := string(e.Data()), `{"a":1}`; got != want {
		t.Errorf("data after the body was used again = %q, want %q", got, want)
	}
}

// FuzzParseStructured checks that what is accepted can be carried on: in structured and in binary mode, unchanged.
func FuzzParseStructured(f *testing.F) {
	for _, seed := range []string{
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}`,
		`{"specversion":"1.0","id":"1","source":"urn:a b","type":"t","datacontenttype":"text/plain","data":"é\u0000","flag":true,"n":-1}`,
		`{"specversion":"1.0","id":"1","source":"a#","type":"t","data_base64":"AP8=","dataschema":"HTTP://h/%7E","schemaurl":"x","datacontentencoding":"base64"}`,
		`{"specversion":"0.3","id":"1","source":"//%41/","type":"t","schemaurl":"a","dataschema":"b","datacontentencoding":"base64","data":"AP8="}`,
		`{"specversion":"1.0","id":"%41","source":"?","type":"t","datacontenttype":"application/x+json","data":"1","time":"0001-01-01T00:00:00Z"}`,
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/json; a","data":null,"subject":"\ud800","time":"9999-12-31T23:59:59.9-01:00"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := event.ParseStructured(body)
		if err != nil {
			if !errors.Is(err, event.ErrMalformed) {
				t.Fatalf("ParseStructured() = %v, want ErrMalformed", err)
			}
			return
		}
		written, err := event.Structured(e)
		if err != nil {
			t.Fatalf("Structured() = %v", err)
		}
		structured, err := event.ParseStructured(written)
		if err != nil {
			t.Fatalf("ParseStructured(%q) = %v", written, err)
		}
		same(t, e, structured)
		if diff := cmp.Diff(e.Extensions(), structured.Extensions()); diff != "" {
			t.Errorf("extensions (-want +got):\n%s", diff)
		}
		batch, err := event.ParseBatch(fmt.Appendf(nil, "[%s]", written))
		if err != nil || len(batch) != 1 {
			t.Fatalf("ParseBatch([%q]) = %v, %v", written, batch, err)
		}
		same(t, e, batch[0])
		same(t, e, throughHeaders(t, e))
	})
}

func same(t *testing.T, want, got *event.Event) {
	t.Helper()
	if !bytes.Equal(got.Data(), want.Data()) {
		t.Errorf("data = %q, want %q", got.Data(), want.Data())
	}
	if diff := cmp.Diff(attributes(want), attributes(got)); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
}
