package gateway

import (
	"cmp"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/plan"
)

// TestASynchronousCall posts to an EventSource that has a sink and no bus. A sink that may not have the event is tried again later; one that
// has begun to answer has it, and is not.
func TestASynchronousCall(t *testing.T) {
	const most = 8 << 20
	tests := []struct {
		name    string
		timeout time.Duration
		sink    http.HandlerFunc
		status  int
		again   string // Retry-After
		says    string
		length  int // of the answer, if it matters
	}{
		{name: "a reply", sink: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, status: 200, says: "hello", length: 5},
		{name: "an error of the sink", sink: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) }, status: 500, says: "no\n"},
		{name: "the sink says when", sink: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "77")
			w.WriteHeader(503)
		}, status: 503, again: "77"},
		{name: "no answer in time", timeout: 200 * time.Millisecond, sink: hang, status: 503, again: "1", says: "sink default/fn is unavailable"},
		{name: "a connection that is closed without an answer", sink: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, status: 503, again: "1", says: "try again later"},
		{name: "the largest reply", sink: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, most)) }, status: 200, length: most},
		{name: "a larger reply", sink: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, most+1)) }, status: 502, says: "larger than 8388608 bytes"},
		{name: "a reply that is cut off", sink: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, status: 502, says: "the sink has the event, but its reply cannot be passed on: read reply of http://"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int32
			sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				tt.sink(w, r)
			}))
			defer sink.Close()
			r := calling(t, sink.URL, cmp.Or(tt.timeout, time.Minute))
			response, body := r.call(t, false)
			if response.StatusCode != tt.status || !strings.Contains(body, tt.says) || tt.length != 0 && len(body) != tt.length {
				t.Errorf("answer = %d with %d bytes, %.200q; want %d with %d that say %q", response.StatusCode, len(body), body, tt.status, tt.length, tt.says)
			}
			if got := response.Header.Get("Retry-After"); got != tt.again {
				t.Errorf("Retry-After = %q, want %q", got, tt.again)
			}
			want := tt.status
			if want == 200 {
				want = 202
			}
			if response, body = r.call(t, true); response.StatusCode != want {
				t.Errorf("answer to a batch = %d %.200q, want %d", response.StatusCode, body, want)
			}
			if n := calls.Load(); n > 2 {
				t.Errorf("the sink was called %d times, want one call for each", n)
			}
		})
	}
}

// hang answers when the caller is gone.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestASynchronousCallOfASinkThatIsAway(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := calling(t, "http://me:planted-secret@"+nobody.Addr().String(), time.Minute)
	_ = nobody.Close()
	response, body := r.call(t, false)
	if again := response.Header.Get("Retry-After"); response.StatusCode != 503 || again != "1" || strings.Contains(body, "planted-secret") {
		t.Errorf("answer = %d %q with Retry-After %q, want 503 with 1 and no password", response.StatusCode, body, again)
	}
}

// TestASynchronousCallShowsCallersNothingOfAURLThatIsASecret has sinks that are away, and that are cut off in their reply.
func TestASynchronousCallShowsCallersNothingOfAURLThatIsASecret(t *testing.T) {
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer sink.Close()
	for url, status := range map[string]int{"http://127.0.0.1:1/in": 503, sink.URL: 502} {
		r := callingTarget(t, plan.Target{Name: "sink of Secret default/s, key url", URL: url, Secret: true}, time.Minute)
		response, body := r.call(t, false)
		if response.StatusCode != status || strings.Contains(body, "127.0.0.1") || strings.Contains(body, "default/s") || !strings.Contains(body, "it gave no reply, see the gateway's log") {
			t.Errorf("answer = %d %q, want %d and nothing of its URL or Secret", response.StatusCode, body, status)
		}
		if lines := r.logs.FilterMessage("a call has no reply").All(); len(lines) != 1 || lines[0].ContextMap()["sink"] != "sink of Secret default/s, key url" {
			t.Errorf("the log says %v, want one line with the name of the sink", lines)
		}
	}
}

// calling runs an EventSource whose only way is to a sink. Its delivery would try again: nobody does but the caller.
func calling(t *testing.T, url string, timeout time.Duration) *running {
	return callingTarget(t, plan.Target{Name: "sink default/fn", URL: url}, timeout)
}

func callingTarget(t *testing.T, sink plan.Target, timeout time.Duration) *running {
	r := start(t, "")
	r.apply(t, &plan.Plan{Sources: []plan.Source{{
		Namespace: "default", EventSource: "es", Event: "call", Kind: "http", HTTP: &plan.HTTP{MaxBodyBytes: 1 << 20},
		Sink:     &sink,
		Delivery: plan.Delivery{Retry: 5, BackoffDelay: time.Millisecond, Timeout: timeout},
	}}})
	return r
}

// call posts one event, by itself or as a batch.
func (r *running) call(t *testing.T, batch bool) (*http.Response, string) {
	t.Helper()
	contentType, body := "application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`
	if batch {
		contentType, body = "application/cloudevents-batch+json", "["+body+"]"
	}
	client := http.Client{Timeout: patience} // less than what a call may take without a timeout of its own
	response, err := client.Post("http://"+r.Addr()+"/default/es/call", contentType, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(answer)
}
