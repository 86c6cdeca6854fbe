package event_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/event"
)

// throughHeaders sends e through headers, as HTTP in binary mode does.
func throughHeaders(t testing.TB, e *event.Event) *event.Event {
	t.Helper()
	var b event.Binary
	event.EachAttribute(e, func(name, value string) {
		escaped := event.EscapeHeader(value)
		for i := range len(escaped) {
			if escaped[i] <= ' ' || escaped[i] >= 0x7f {
				t.Fatalf("EscapeHeader(%q) = %q, which no header can hold", value, escaped)
			}
		}
		if err := b.Set(name, event.UnescapeHeader(escaped)); err != nil {
			t.Fatalf("Set(%q, %q) = %v", name, value, err)
		}
	})
	back, err := b.Event(e.DataContentType(), e.Data())
	if err != nil {
		t.Fatalf("Event() = %v", err)
	}
	return back
}

func TestBinaryKeepsAttributes(t *testing.T) {
	tests := []struct {
		name, contentType string
		pairs             []string
		want              map[string]string
	}{
		{name: "the least there can be", want: map[string]string{}},
		{
			name: "everything", contentType: "text/plain; charset=utf-8",
			pairs: []string{"subject", "é ü", "time", "2026-01-02T03:04:05.000000001Z", "dataschema", "http://a/b#c", "traceparent", "00-1", "empty", ""},
			want: map[string]string{
				"datacontenttype": "text/plain; charset=utf-8", "subject": "é ü", "time": "2026-01-02T03:04:05.000000001Z", "dataschema": "http://a/b#c",
				"traceparent": "00-1", "empty": "",
			},
		},
		{name: "a time becomes UTC", pairs: []string{"time", "2026-01-02T03:04:05+05:30"}, want: map[string]string{"time": "2026-01-01T21:34:05Z"}},
		{name: "the first time there is", pairs: []string{"time", "0001-01-01T00:00:00Z"}, want: map[string]string{"time": "0001-01-01T00:00:00Z"}},
		{name: "a source is not re-encoded", pairs: []string{"source", "URN:a b%7e^#"}, want: map[string]string{"source": "URN:a b%7e^#"}},
		{name: "a relative source is not re-encoded", pairs: []string{"source", "a b?#"}, want: map[string]string{"source": "a b?#"}},
		{name: "a dataschema is not re-encoded", pairs: []string{"dataschema", "HTTP://h/a b"}, want: map[string]string{"dataschema": "HTTP://h/a b"}},
		{name: "version 0.3 stays what it is", pairs: []string{"specversion", "0.3", "schemaurl", "a/b"}, want: map[string]string{"specversion": "0.3", "schemaurl": "a/b"}},
		{name: "schemaurl is an extension of 1.0", pairs: []string{"schemaurl", "a"}, want: map[string]string{"schemaurl": "a"}},
		{name: "datacontentencoding is an extension of 1.0", pairs: []string{"datacontentencoding", "a"}, want: map[string]string{"datacontentencoding": "a"}},
		{name: "dataschema is an extension of 0.3", pairs: []string{"specversion", "0.3", "dataschema", "a"}, want: map[string]string{"specversion": "0.3", "dataschema": "a"}},
		{name: "a content type with broken parameters", contentType: "text/plain; a", want: map[string]string{"datacontenttype": "text/plain; a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range map[string]string{"specversion": "1.0", "id": "1", "source": "/s", "type": "t"} {
				if _, ok := tt.want[name]; !ok {
					tt.want[name] = value
				}
			}
			e := newEvent(t, tt.contentType, []byte("data"), tt.pairs...)
			if diff := cmp.Diff(tt.want, attributes(e)); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			same(t, e, throughHeaders(t, e))
		})
	}
}

func TestBinaryRejects(t *testing.T) {
	long := make([]string, 0, 260)
	for i := range 129 {
		long = append(long, fmt.Sprintf("x%d", i), "")
	}
	tests := []struct {
		name, contentType string
		pairs             []string
		says              string
	}{
		{name: "no version", pairs: []string{"specversion", ""}, says: "specversion is missing"},
		{name: "version 0.2", pairs: []string{"specversion", "0.2"}, says: "want 1.0 or 0.3"},
		{name: "a blank source", pairs: []string{"source", "\t"}, says: "source is missing"},
		{name: "an upper-case name", pairs: []string{"Ext", ""}, says: "lower-case"},
		{name: "a name with an underscore", pairs: []string{"my_ext", ""}, says: "lower-case"},
		{name: "a name that is reserved", pairs: []string{"data", ""}, says: "is reserved"},
		{name: "no name", pairs: []string{"", ""}, says: "attribute name"},
		{name: "a value that is not UTF-8", pairs: []string{"ext", "\xff"}, says: "UTF-8"},
		{name: "too many extensions", pairs: long, says: "128"},
		{name: "too many extensions besides ours", pairs: append([]string{event.KindExtension, "", event.ErrorDestExtension, ""}, long...), says: "128"},
		{name: "a content type that is none", contentType: "no type", says: "content type"},
		{name: "a schemaurl of 0.3 that is no URI", pairs: []string{"specversion", "0.3", "schemaurl", ":"}, says: "schemaurl"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b event.Binary
			var err error
			pairs := append([]string{"specversion", "1.0", "id", "1", "source", "/s", "type", "t"}, tt.pairs...)
			for i := 0; i < len(pairs) && err == nil; i += 2 {
				err = b.Set(pairs[i], pairs[i+1])
			}
			if err == nil {
				_, err = b.Event(tt.contentType, nil)
			}
			if !errors.Is(err, event.ErrMalformed) || !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("got %v, want ErrMalformed that says %q", err, tt.says)
			}
		})
	}
}

// What was taken with as many extensions as there may be is read again when the data plane has added its own, in whatever order they come.
func TestWhatTheDataPlaneAddsDoesNotCount(t *testing.T) {
	full := newEvent(t, "", nil)
	for i := range 128 {
		full.SetExtension(fmt.Sprintf("x%d", i), "y")
	}
	for _, name := range []string{
		event.KindExtension, event.ErrorDestExtension, event.ErrorCodeExtension, event.ErrorDataExtension, event.DataOmittedExtension,
	} {
		full.SetExtension(name, "z")
	}
	same(t, full, throughHeaders(t, full))
	body, err := event.Structured(full)
	if err != nil {
		t.Fatal(err)
	}
	read, err := event.ParseStructured(body)
	if err != nil {
		t.Fatal(err)
	}
	same(t, full, read)
}

func TestShort(t *testing.T) {
	for value, want := range map[string]string{
		"":                              "",
		"short":                         "short",
		strings.Repeat("x", 256):        strings.Repeat("x", 256),
		strings.Repeat("x", 257):        strings.Repeat("x", 256) + "…",
		"x" + strings.Repeat("é", 1000): "x" + strings.Repeat("é", 127) + "…",
	} {
		if got := event.Short(value); got != want {
			t.Errorf("Short(%q) = %q, want %q", value, got, want)
		}
	}
}

func TestHeaderEscaping(t *testing.T) {
	tests := []struct{ name, value, escaped string }{
		{"plain text stays", "Az09-._~:/?#[]@!$&'()*+,;=", "Az09-._~:/?#[]@!$&'()*+,;="},
		{"the binding's own example", "Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"},
		{"quotes and percent", `"100%"`, "%22100%25%22"},
		{"line breaks cannot forge headers", "a\r\nb: c", "a%0D%0Ab:%20c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := event.EscapeHeader(tt.value); got != tt.escaped {
				t.Errorf("EscapeHeader(%q) = %q, want %q", tt.value, got, tt.escaped)
			}
			if got := event.UnescapeHeader(tt.escaped); got != tt.value {
				t.Errorf("UnescapeHeader(%q) = %q, want %q", tt.escaped, got, tt.value)
			}
		})
	}
	for in, want := range map[string]string{"100%": "100%", "%4": "%4", "%zz%41": "%zzA", "%e2%82%ac": "€"} {
		if got := event.UnescapeHeader(in); got != want {
			t.Errorf("UnescapeHeader(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	cause := errors.New("too large")
	if event.Permanent(nil) != nil {
		t.Error("Permanent(nil) is not nil")
	}
	wrapped := fmt.Errorf("publish: %w", event.Permanent(cause))
	if !event.IsPermanent(wrapped) || !errors.Is(wrapped, cause) || event.IsPermanent(cause) || event.IsPermanent(nil) {
		t.Error("Permanent does not mark its error, or hides it")
	}
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"several that are permanent", errors.Join(wrapped, event.Permanent(cause)), true},
		{"several of which one is not", errors.Join(wrapped, errors.New("away")), false},
		{"several, wrapped", fmt.Errorf("batch: %w", errors.Join(wrapped, wrapped)), true},
		{"stopped, whatever the last attempt said", fmt.Errorf("%w: %w", context.Canceled, wrapped), false},
		{"several, as a whole", event.Permanent(fmt.Errorf("%w: %w", cause, context.Canceled)), true},
	} {
		if got := event.IsPermanent(tt.err); got != tt.want {
			t.Errorf("%s: IsPermanent(%v) = %v, want %v", tt.name, tt.err, got, tt.want)
		}
	}
	away := &event.Unavailable{What: "EventBus a/b", Err: context.DeadlineExceeded}
	if got, want := away.Error(), "EventBus a/b is unavailable: context deadline exceeded"; got != want || !errors.Is(away, context.DeadlineExceeded) {
		t.Errorf("Unavailable = %q, want %q with its cause", got, want)
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&event.Unavailable{What: "it"}, "it is unavailable"},
		{&event.Unavailable{What: "it", Full: true}, "it is full: make room or raise its limit"},
		{&event.Unavailable{What: "it", Full: true, Err: cause}, "it is full: " + cause.Error() + ": make room or raise its limit"},
		{&event.DataOmitted{Bytes: 9, Err: cause}, "its dead letter is without its 9 bytes of data: " + cause.Error() + ": raise that limit or send less"},
		{&event.DataOmitted{Err: cause}, "its dead letter is without most of its attributes: " + cause.Error() + ": raise that limit or send less"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%#v says %q, want %q", tt.err, got, tt.want)
		}
	}
	var h event.Handler = event.HandlerFunc(func(context.Context, *event.Event) error { return cause })
	if err := h.Handle(t.Context(), nil); err != cause {
		t.Errorf("Handle() = %v, want %v", err, cause)
	}
}
