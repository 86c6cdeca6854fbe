package ingress_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/ingress"
	"github.com/openfunction/events/pkg/plan"
)

// inbox is a handler that remembers what it took, as JSON.
type inbox struct {
	mu   sync.Mutex
	took []string
}

func (i *inbox) Handle(_ context.Context, e *event.Event) error {
	body, err := event.Structured(e)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.took = append(i.took, string(body))
	return nil
}

func fails(err error) event.Handler {
	return event.HandlerFunc(func(context.Context, *event.Event) error { return err })
}

const eventPath = "/ns/es/e"

func route(next event.Handler) ingress.RouteOptions {
	return ingress.RouteOptions{Namespace: "ns", EventSource: "es", Event: "e", HTTP: plan.HTTP{MaxBodyBytes: 1000}, Next: next, SourceURI: "/src"}
}

func serving(t testing.TB, o ingress.Options, routes ...ingress.RouteOptions) (*ingress.Ingress, http.Handler) {
	t.Helper()
	i := ingress.New(o)
	t.Cleanup(i.Close)
	serve(t, i, routes...)
	return i, i.Handler()
}

func serve(t testing.TB, i *ingress.Ingress, routes ...ingress.RouteOptions) {
	t.Helper()
	var all []*ingress.Route
	for _, o := range routes {
		r, err := i.NewRoute(o)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	i.SetRoutes(all)
}

// headers builds a header from lines as a client sends them.
func headers(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

// binaryWith is a valid event in binary mode with the lines in place of, or besides, its own. A line that ends with a colon removes.
func binaryWith(lines ...string) http.Header {
	h := headers("ce-specversion: 1.0", "ce-id: 1", "ce-source: /s", "ce-type: t")
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		h.Del(name)
		if value != "" {
			h.Set(name, strings.TrimPrefix(value, " "))
		}
	}
	return h
}

func do(h http.Handler, method, target string, header http.Header, body io.Reader) *http.Response {
	r := httptest.NewRequest(method, target, body)
	if header != nil {
		r.Header = header
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func structured(members string) string {
	return `{"specversion":"1.0","id":"1","source":"/s","type":"t"` + members + `}`
}

const (
	least      = `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`
	ceJSON     = "Content-Type: application/cloudevents+json"
	ceBatch    = "Content-Type: application/cloudevents-batch+json"
	accepted   = http.StatusAccepted
	badRequest = http.StatusBadRequest
)

// TestRequests has a row for all that a client may send, and what it gets.
func TestRequests(t *testing.T) {
	tests := []struct {
		name, method, path string // POST to eventPath unless they say otherwise
		header             http.Header
		body               string
		status             int
		says               string   // part of the answer's sentence
		took               []string // what the next stage got
	}{
		{name: "a read of an event's path", method: "GET", status: 405, says: "POST, OPTIONS"},
		{name: "a HEAD of an event's path", method: "HEAD", status: 405},
		{name: "a PUT", method: "PUT", header: binaryWith(), status: 405},
		{name: "a PATCH", method: "PATCH", header: binaryWith(), status: 405},
		{name: "a DELETE", method: "DELETE", status: 405},
		{name: "a TRACE", method: "TRACE", status: 405},
		{name: "a method of its own", method: "BREW", status: 405},
		{name: "a post to the root", path: "/", header: binaryWith(), status: 404, says: "/{namespace}/{eventSource}/{event}"},
		{name: "a path of one name", path: "/one", header: binaryWith(), status: 404},
		{name: "a path of two names", path: "/ns/es", header: binaryWith(), status: 404},
		{name: "a path of four names", path: "/ns/es/e/x", header: binaryWith(), status: 404},
		{name: "an unknown event with a valid CloudEvent", path: "/ns/es/x", header: binaryWith(), status: 404, says: "no http event x of EventSource ns/es"},
		{name: "an unknown event with an invalid CloudEvent", path: "/ns/es/x", header: headers("ce-id: 1"), status: 404},
		{name: "a trailing slash", path: "/ns/es/e/", header: binaryWith(), status: accepted, took: []string{least}},
		{name: "a query string", path: "/ns/es/e?x=1", header: binaryWith(), status: accepted, took: []string{least}},
		{name: "plain JSON", header: headers("Content-Type: application/json"), body: "{}", status: badRequest, says: "raw: true on event e"},
		{name: "nothing at all", status: badRequest, says: "not a CloudEvent"},
		{
			name: "binary with JSON that is broken", header: binaryWith("Content-Type: application/json"), body: "{", status: accepted,
			took: []string{structured(`,"datacontenttype":"application/json","data_base64":"ew=="`)},
		},
		{
			name: "binary with JSON and all attributes",
			header: binaryWith("Content-Type: application/json", "ce-subject: Euro%20%E2%82%AC", "ce-time: 2026-01-02T03:04:05Z", "ce-dataschema: http://a/b",
				"CE-TraceParent: 00-1", "X-Other: 1", "Authorization: secret"),
			body: `{"a":1}`, status: accepted,
			took: []string{structured(`,"subject":"Euro €","time":"2026-01-02T03:04:05Z","dataschema":"http://a/b","datacontenttype":"application/json","traceparent":"00-1","data":{"a":1}`)},
		},
		{name: "binary with an empty body", header: binaryWith(), status: accepted, took: []string{least}},
		{
			name: "binary of version 0.3 stays that", header: binaryWith("ce-specversion: 0.3", "ce-schemaurl: a"), status: accepted,
			took: []string{`{"specversion":"0.3","id":"1","source":"/s","type":"t","schemaurl":"a"}`},
		},
		{name: "binary of version 0.2", header: binaryWith("ce-specversion: 0.2"), status: badRequest, says: "0.2"},
		{name: "binary of version 1.1", header: binaryWith("ce-specversion: 1.1"), status: badRequest, says: "want 1.0 or 0.3"},
		{name: "binary of version 19.0", header: binaryWith("ce-specversion: 19.0"), status: badRequest},
		{name: "binary without id", header: binaryWith("ce-id:"), status: badRequest, says: "id is missing"},
		{name: "binary with a blank id", header: binaryWith("ce-id:  "), status: badRequest, says: "id is missing"},
		{name: "binary without type", header: binaryWith("ce-type:"), status: badRequest, says: "type is missing"},
		{name: "binary without source", header: binaryWith("ce-source:"), status: badRequest, says: "source is missing"},
		{name: "binary without version", header: binaryWith("ce-specversion:"), status: badRequest, says: "specversion is missing"},
		{name: "binary with an attribute twice", header: http.Header{"Ce-Id": {"1", "2"}, "Ce-Type": {"t"}}, status: badRequest, says: "2 times"},
		{name: "binary with a bad time", header: binaryWith("ce-time: yesterday"), status: badRequest, says: "RFC 3339"},
		{name: "binary with a bad source", header: binaryWith("ce-source: :"), status: badRequest, says: "URI"},
		{name: "binary with a relative dataschema", header: binaryWith("ce-dataschema: a"), status: badRequest, says: "absolute"},
		{name: "binary with a content type that is none", header: binaryWith("Content-Type: a b"), status: badRequest, says: "media type"},
		{name: "an extension with a hyphen", header: binaryWith("ce-my-ext: 1"), status: badRequest, says: "my-ext"},
		{name: "an extension with an underscore", header: binaryWith("ce-my_ext: 1"), status: badRequest, says: "my_ext"},
		{
			name: "an extension with a name of 40 characters", header: binaryWith("ce-" + strings.Repeat("a", 40) + ": 1"), status: accepted,
			took: []string{structured(`,"` + strings.Repeat("a", 40) + `":"1"`)},
		},
		{name: "structured", header: headers(ceJSON), body: structured(`,"data":{"a":1}`), status: accepted, took: []string{structured(`,"data":{"a":1}`)}},
		{name: "structured in any case, with a charset", header: headers("Content-Type: Application/CloudEvents+JSON ; charset=utf-8"), body: least, status: accepted, took: []string{least}},
		{name: "structured that is no JSON", header: headers(ceJSON), body: "{", status: badRequest, says: "not a JSON object"},
		{name: "structured that is empty", header: headers(ceJSON), status: badRequest},
		{name: "structured without id", header: headers(ceJSON), body: `{"specversion":"1.0","source":"/s","type":"t"}`, status: badRequest, says: "id is missing"},
		{name: "structured without version", header: headers(ceJSON), body: `{"id":"1","source":"/s","type":"t"}`, status: badRequest, says: "specversion is missing"},
		{name: "structured of an unknown version", header: headers(ceJSON), body: `{"specversion":"2.0","id":"1","source":"/s","type":"t"}`, status: badRequest, says: "2.0"},
		{
			name: "structured with bytes", header: headers(ceJSON), body: structured(`,"datacontenttype":"image/png","data_base64":"AP8="`), status: accepted,
			took: []string{structured(`,"datacontenttype":"image/png","data_base64":"AP8="`)},
		},
		{name: "structured with bytes that are no base64", header: headers(ceJSON), body: structured(`,"data_base64":"*"`), status: badRequest, says: "data_base64"},
		{name: "structured with both kinds of data", header: headers(ceJSON), body: structured(`,"data":1,"data_base64":"AA=="`), status: badRequest, says: "both"},
		{name: "structured with typed extensions", header: headers(ceJSON), body: structured(`,"a":true,"b":1`), status: accepted, took: []string{structured(`,"a":true,"b":1`)}},
		{name: "structured with an object as extension", header: headers(ceJSON), body: structured(`,"a":{}`), status: badRequest, says: "attribute a"},
		{name: "structured with ce headers too: the body counts", header: binaryWith(ceJSON, "ce-id: other"), body: least, status: accepted, took: []string{least}},
		{name: "a batch of two", header: headers(ceBatch), body: "[" + least + "," + least + "]", status: accepted, took: []string{least, least}},
		{name: "a batch of none", header: headers("content-type: application/CloudEvents-Batch+json; charset=utf-8"), body: "[]", status: accepted},
		{name: "a batch with one that is malformed", header: headers(ceBatch), body: "[" + least + ",{}]", status: badRequest, says: "event 1 of the batch"},
		{name: "a batch above the cap", header: headers(ceBatch), body: "[" + strings.Repeat(least+",", 3) + least + "]", status: 413, says: "at most 3"},
		{name: "a batch that is no array", header: headers(ceBatch), body: least, status: badRequest, says: "not a JSON array"},
		{name: "a format that we do not know", header: headers("Content-Type: application/cloudevents+xml"), body: "<event/>", status: 415, says: "application/cloudevents+json"},
		{name: "a batch in a format that we do not know", header: headers("Content-Type: application/cloudevents-batch+xml"), status: 415},
		{name: "a compressed body", header: binaryWith("Content-Encoding: gzip"), body: "x", status: 415, says: "gzip"},
		{name: "a body that says it is not compressed", header: binaryWith("Content-Encoding: identity"), status: accepted, took: []string{least}},
		{name: "a body at the limit", header: binaryWith("Content-Type: text/plain"), body: strings.Repeat("a", 1000), status: accepted, took: []string{structured(`,"datacontenttype":"text/plain","data":"` + strings.Repeat("a", 1000) + `"`)}},
		{name: "structured data above the limit", header: headers(ceJSON), body: `{"specversion":"1.0","id":"1","source":"s","type":"t","data":"` + strings.Repeat("a", 1001) + `"}`, status: 413, says: "larger than 1000 bytes"},
		{name: "structured data at the limit as base64", header: headers(ceJSON), body: `{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"` + base64.StdEncoding.EncodeToString(make([]byte, 1000)) + `"}`, status: accepted, took: []string{`{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"` + base64.StdEncoding.EncodeToString(make([]byte, 1000)) + `"}`}},
		{name: "a batch with data above the limit", header: headers(ceBatch), body: `[{"specversion":"1.0","id":"1","source":"s","type":"t","data":"` + strings.Repeat("a", 1001) + `"}]`, status: 413, says: "larger than 1000 bytes"},
		{name: "a body above the limit", header: binaryWith(), body: strings.Repeat("a", 1001), status: 413, says: "larger than 1000 bytes"},
		{name: "a broker's count of hops is kept", header: binaryWith("ce-knativebrokerttl: 1"), status: accepted, took: []string{structured(`,"knativebrokerttl":"1"`)}},
		{name: "a broker's count of hops that is no number is kept", header: binaryWith("ce-knativebrokerttl: abc"), status: accepted, took: []string{structured(`,"knativebrokerttl":"abc"`)}},
		{name: "a broker's count of hops that is used up", header: binaryWith("ce-knativebrokerttl: 0"), status: badRequest, says: "loop"},
		{name: "a broker's count of hops below zero", header: headers(ceJSON), body: structured(`,"knativebrokerttl":-3`), status: badRequest, says: "loop"},
		{name: "health asked by anyone", method: "GET", path: "/healthz", status: 200, says: "ok"},
		{name: "readiness asked with HEAD", method: "HEAD", path: "/readyz", status: 200},
		{name: "a post to the health path", path: "/healthz", status: 405, says: "GET, HEAD"},
		{name: "a kubelet's probe on any path", method: "GET", path: "/x", header: headers("User-Agent: kube-probe/1.30"), status: 200, says: "ok"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var next inbox
			_, h := serving(t, ingress.Options{MaxBatch: 3}, route(&next))
			if tt.method == "" {
				tt.method = "POST"
			}
			if tt.path == "" {
				tt.path = eventPath
			}
			response := do(h, tt.method, tt.path, tt.header, strings.NewReader(tt.body))
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != tt.status || !strings.Contains(string(body), tt.says) {
				t.Errorf("answer = %d %q, want %d that says %q", response.StatusCode, body, tt.status, tt.says)
			}
			if tt.status == accepted && len(body) != 0 {
				t.Errorf("answer = %q, want it empty", body)
			}
			if want := "POST, OPTIONS"; tt.status == 405 && tt.path == eventPath && response.Header.Get("Allow") != want {
				t.Errorf("Allow = %q, want %q", response.Header.Get("Allow"), want)
			}
			if diff := cmp.Diff(tt.took, next.took); diff != "" {
				t.Errorf("taken (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRawBodies(t *testing.T) {
	o := ingress.Options{
		Now:   func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)) },
		NewID: func() string { return "id" },
	}
	const head = `{"specversion":"1.0","id":"id","source":"/src","type":"io.openfunction.events.http","time":"2026-01-02T02:04:05.000000006Z",`
	tests := []struct {
		name, typ, body string
		header          http.Header
		mark            bool
		status          int
		want            string
	}{
		{name: "JSON", header: headers("Content-Type: application/json"), body: `{"a":1}`, want: head + `"datacontenttype":"application/json","data":{"a":1}}`},
		{name: "a form", header: headers("Content-Type: application/x-www-form-urlencoded"), body: "a=1", want: head + `"datacontenttype":"application/x-www-form-urlencoded","data_base64":"YT0x"}`},
		{name: "bytes without a content type", body: "\xff", want: head + `"datacontenttype":"application/octet-stream","data_base64":"/w=="}`},
		{name: "nothing", want: head + `"datacontenttype":"application/octet-stream"}`},
		{name: "a type of its own", typ: "acme", header: headers("Content-Type: text/plain"), body: "a", want: strings.Replace(head, "io.openfunction.events.http", "acme", 1) + `"datacontenttype":"text/plain","data":"a"}`},
		{name: "marked with its kind", mark: true, header: headers("Content-Type: text/plain"), body: "a", want: head + `"datacontenttype":"text/plain","openfunctionkind":"http","data":"a"}`},
		{name: "a CloudEvent stays what it is", header: binaryWith(), want: least},
		{name: "a CloudEvent that is marked", mark: true, header: headers(ceJSON), body: structured(`,"openfunctionkind":"kafka"`), want: structured(`,"openfunctionkind":"http"`)},
		{name: "half a CloudEvent is a mistake", header: headers("ce-id: 1"), status: badRequest},
		{name: "a content type that is none", header: headers("Content-Type: a b"), status: badRequest},
		{name: "a format that we do not know is a mistake", header: headers("Content-Type: application/cloudevents+avro"), status: 415},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var next inbox
			r := route(&next)
			r.HTTP.Raw, r.HTTP.Type, r.MarkKind = true, tt.typ, tt.mark
			_, h := serving(t, o, r)
			response := do(h, "POST", eventPath, tt.header, strings.NewReader(tt.body))
			want := []string{tt.want}
			if tt.status == 0 {
				tt.status = accepted
			} else {
				want = nil
			}
			if response.StatusCode != tt.status {
				t.Errorf("status = %d, want %d", response.StatusCode, tt.status)
			}
			if diff := cmp.Diff(want, next.took); diff != "" {
				t.Errorf("taken (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		name       string
		err        error
		status     int
		retryAfter string
		says       string
	}{
		{"taken", nil, 202, "", ""},
		{"the bus is away", &event.Unavailable{What: "EventBus ns/default"}, 503, "1", "EventBus ns/default is unavailable"},
		{"the bus is away and says for how long", fmt.Errorf("publish: %w", &event.Unavailable{What: "bus", After: 2500 * time.Millisecond}), 503, "3", ""},
		{"the bus is full", &event.Unavailable{What: "bus", Full: true, Err: errors.New("1 GiB of 1 GiB used")}, 507, "1", "1 GiB of 1 GiB used"},
		{"too large for the bus", event.Permanent(fmt.Errorf("publish: %w", event.ErrTooLarge)), 413, "", "too large"},
		{"refused for good", event.Permanent(errors.New("no such topic")), 400, "", "no such topic"},
		{"not in time", fmt.Errorf("publish: %w", context.DeadlineExceeded), 503, "1", "in time"},
		{"a reply that is lost", fmt.Errorf("%w: cut off: %w", ingress.ErrReply, context.DeadlineExceeded), 502, "", "the sink has the event, but its reply cannot be passed on: cut off"},
		{"something else", errors.New("broken pipe"), 502, "", "broken pipe"},
	}
	for _, tt := range tests {
		for _, batch := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, batch %t", tt.name, batch), func(t *testing.T) {
				_, h := serving(t, ingress.Options{}, route(fails(tt.err)))
				header, body := binaryWith(), ""
				if batch {
					header, body = headers(ceBatch), "["+least+"]"
				}
				response := do(h, "POST", eventPath, header, strings.NewReader(body))
				says, _ := io.ReadAll(response.Body)
				if response.StatusCode != tt.status || !strings.Contains(string(says), tt.says) {
					t.Errorf("answer = %d %q, want %d that says %q", response.StatusCode, says, tt.status, tt.says)
				}
				if got := response.Header.Get("Retry-After"); got != tt.retryAfter {
					t.Errorf("Retry-After = %q, want %q", got, tt.retryAfter)
				}
			})
		}
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	_, h := serving(t, ingress.Options{MaxConcurrent: 1}, route(event.HandlerFunc(func(context.Context, *event.Event) error { panic("oh") })))
	for _, batch := range []bool{false, true, false} {
		header, body := binaryWith(), ""
		if batch {
			header, body = headers(ceBatch), "["+least+"]"
		}
		if got := do(h, "POST", eventPath, header, strings.NewReader(body)).StatusCode; got != 500 {
			t.Errorf("status = %d, want 500", got)
		}
	}
}

func TestOneErrorFailsTheBatch(t *testing.T) {
	next := event.HandlerFunc(func(_ context.Context, e *event.Event) error {
		switch e.ID() {
		case "2":
			return &event.Unavailable{What: "bus"}
		case "4":
			return event.Permanent(event.ErrTooLarge)
		}
		return nil
	})
	_, h := serving(t, ingress.Options{}, route(next))
	withIDs := func(ids ...string) io.Reader {
		var events []string
		for _, id := range ids {
			events = append(events, strings.Replace(least, `"id":"1"`, `"id":"`+id+`"`, 1))
		}
		return strings.NewReader("[" + strings.Join(events, ",") + "]")
	}
	if got := do(h, "POST", eventPath, headers(ceBatch), withIDs("1", "2", "3")).StatusCode; got != 503 {
		t.Errorf("status of a batch with one event that was not taken = %d, want 503", got)
	}
	if got := do(h, "POST", eventPath, headers(ceBatch), withIDs("1", "2", "3", "4")).StatusCode; got != 413 {
		t.Errorf("status of a batch with one event that never will be = %d, want 413", got)
	}
	if got := do(h, "POST", eventPath, headers(ceBatch), withIDs("1", "3", "5")).StatusCode; got != 202 {
		t.Errorf("status of a batch that was taken = %d, want 202", got)
	}
}

// TestABatchKeepsTheOrderOfKeys posts a batch of events of several keys, some of them numbers, to a stage that is slow at random. After one
// that is not taken, none of its key is handed over.
func TestABatchKeepsTheOrderOfKeys(t *testing.T) {
	const keys, each = 5, 40
	var mu sync.Mutex
	got := map[string][]string{}
	next := event.HandlerFunc(func(_ context.Context, e *event.Event) error {
		time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
		mu.Lock()
		defer mu.Unlock()
		key := event.PartitionKey(e)
		got[key] = append(got[key], e.ID())
		if key == "0" && e.ID() == "20" {
			return &event.Unavailable{What: "bus"}
		}
		return nil
	})
	_, h := serving(t, ingress.Options{}, route(next))
	var events []string
	want := map[string][]string{}
	for n := range each {
		for k := range keys {
			key := fmt.Sprint(k)
			if want[key] = append(want[key], fmt.Sprint(n)); k%2 == 1 {
				key = `"` + key + `"`
			}
			events = append(events, strings.Replace(least, `"id":"1"`, fmt.Sprintf(`"id":"%d","partitionkey":%s`, n, key), 1))
		}
	}
	_ = do(h, "POST", eventPath, headers(ceBatch), strings.NewReader("["+strings.Join(events, ",")+"]"))
	want["0"] = want["0"][:21]
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order of each key (-want +got):\n%s", diff)
	}
}

func TestCallPassesTheReplyOn(t *testing.T) {
	tests := []struct {
		name       string
		reply      *ingress.Reply
		err        error
		status     int
		header     http.Header
		body       string
		batchGives int
	}{{
		name: "a reply", status: 201, body: "made", batchGives: 202,
		reply:  &ingress.Reply{Status: 201, Body: []byte("made"), Header: headers("Ce-Id: 2", "Content-Type: text/plain", "Connection: close, X-Hop", "X-Hop: 1", "Content-Length: 9", "Transfer-Encoding: chunked")},
		header: headers("Ce-Id: 2", "Content-Type: text/plain"),
	}, {
		name: "an error of the sink", reply: &ingress.Reply{Status: 422, Body: []byte("no")}, status: 422, body: "no", batchGives: 422,
	}, {
		name: "a redirect", reply: &ingress.Reply{Status: 302, Header: headers("Location: /x")}, status: 302, header: headers("Location: /x"), batchGives: 302,
	}, {
		name: "a status that is none", reply: &ingress.Reply{Status: 0}, status: 502, batchGives: 502,
	}, {
		name: "the sink is away", err: errors.New("connection refused"), status: 502, body: "the event was not taken: connection refused\n", batchGives: 502,
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := route(nil)
			r.Call = func(context.Context, *event.Event) (*ingress.Reply, error) { return tt.reply, tt.err }
			_, h := serving(t, ingress.Options{}, r)
			response := do(h, "POST", eventPath, binaryWith(), nil)
			body, _ := io.ReadAll(response.Body)
			if response.StatusCode != tt.status || string(body) != tt.body {
				t.Errorf("answer = %d %q, want %d %q", response.StatusCode, body, tt.status, tt.body)
			}
			if tt.err == nil && len(tt.header)+len(response.Header) > 0 {
				if diff := cmp.Diff(tt.header, response.Header); diff != "" {
					t.Errorf("headers (-want +got):\n%s", diff)
				}
			}
			if got := do(h, "POST", eventPath, headers(ceBatch), strings.NewReader("["+least+"]")).StatusCode; got != tt.batchGives {
				t.Errorf("status of a batch = %d, want %d", got, tt.batchGives)
			}
		})
	}
}

func TestBodyOfUnknownLength(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 1001} {
		var next inbox
		_, h := serving(t, ingress.Options{}, route(&next))
		body := strings.Repeat("a", size)
		want, took := accepted, 1
		if size > 1000 {
			want, took = 413, 0
		}
		// A reader that httptest does not know the length of makes the request chunked.
		response := do(h, "POST", eventPath, binaryWith("Content-Type: text/plain"), io.MultiReader(strings.NewReader(body)))
		if response.StatusCode != want || len(next.took) != took {
			t.Errorf("%d bytes: status = %d with %d taken, want %d with %d", size, response.StatusCode, len(next.took), want, took)
		}
		if took == 1 && !strings.Contains(next.took[0], body) {
			t.Errorf("%d bytes: data is not what was sent", size)
		}
	}
}

func TestLargeBodiesDoNotShareMemory(t *testing.T) {
	var events []*event.Event
	r := route(event.HandlerFunc(func(_ context.Context, e *event.Event) error {
		events = append(events, e)
		return nil
	}))
	r.HTTP.MaxBodyBytes = 1 << 20
	_, h := serving(t, ingress.Options{}, r)
	for _, letter := range []string{"a", "b"} {
		if got := do(h, "POST", eventPath, binaryWith(), strings.NewReader(strings.Repeat(letter, 600<<10))).StatusCode; got != accepted {
			t.Fatalf("status = %d, want %d", got, accepted)
		}
	}
	for n, letter := range []string{"a", "b"} {
		if got := string(events[n].Data()); got != strings.Repeat(letter, 600<<10) {
			t.Errorf("data of event %d is %d bytes that begin with %.3q, want what was sent", n, len(got), got)
		}
	}
}

// An event with as many extensions as there may be is taken in every mode, also when its kind is marked, and what is taken can be read again.
func TestTheMostExtensions(t *testing.T) {
	lines, members := []string{}, ""
	for i := range 128 {
		lines = append(lines, fmt.Sprintf("ce-x%d: y", i))
		members += fmt.Sprintf(`,"x%d":"y"`, i)
	}
	for name, request := range map[string]struct {
		header http.Header
		body   string
	}{
		"binary":     {binaryWith(lines...), ""},
		"structured": {headers(ceJSON), structured(members)},
		"batch":      {headers(ceBatch), "[" + structured(members) + "]"},
	} {
		var next inbox
		r := route(&next)
		r.MarkKind = true
		_, h := serving(t, ingress.Options{}, r)
		if got := do(h, "POST", eventPath, request.header, strings.NewReader(request.body)).StatusCode; got != accepted {
			t.Errorf("%s: status = %d, want %d", name, got, accepted)
		}
		for _, took := range next.took {
			if _, err := event.ParseStructured([]byte(took)); err != nil || !strings.Contains(took, `"openfunctionkind":"http"`) {
				t.Errorf("%s: took %s, which reads as %v", name, took, err)
			}
		}
		if len(next.took) != 1 {
			t.Errorf("%s: took %d events, want one", name, len(next.took))
		}
	}
}
