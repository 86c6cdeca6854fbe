package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// received is a server that keeps what is posted to it.
type received struct {
	mu      sync.Mutex
	ids     []string
	headers []http.Header
	bodies  []string
	busy    int
	most    int
}

func (r *received) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	r.mu.Lock()
	r.busy++
	r.most = max(r.most, r.busy)
	r.ids = append(r.ids, q.Header.Get("Ce-Id"))
	r.headers = append(r.headers, q.Header)
	r.bodies = append(r.bodies, string(body))
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.busy--
		r.mu.Unlock()
	}()
	if strings.HasSuffix(q.Header.Get("Ce-Id"), "-3") {
		http.Error(w, "the third is one too many", http.StatusTeapot)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func TestSendOne(t *testing.T) {
	r := &received{}
	server := httptest.NewServer(r)
	defer server.Close()
	code, stdout, stderr := events(t, "send", "--to", server.URL, "--type", "a.b", "--source", "/me", "--id", "x", "--subject", "é", "--data", `{"a":1}`,
		"--header", "Authorization: Bearer a:b", "--header", "ce-partitionkey:k")
	if code != 0 || !regexp.MustCompile(`^sent 1, failed 0, p50 \S+, p99 \S+\n$`).MatchString(stdout) || stderr != "" {
		t.Fatalf("send = %d, %q, %q", code, stdout, stderr)
	}
	h := r.headers[0]
	got := []string{h.Get("Ce-Specversion"), h.Get("Ce-Id"), h.Get("Ce-Source"), h.Get("Ce-Type"), h.Get("Ce-Subject"), h.Get("Content-Type"), r.bodies[0],
		h.Get("Authorization"), h.Get("Ce-Partitionkey")}
	want := []string{"1.0", "x", "/me", "a.b", "%C3%A9", "application/json", `{"a":1}`, "Bearer a:b", "k"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if _, err := time.Parse(time.RFC3339Nano, h.Get("Ce-Time")); err != nil {
		t.Error(err)
	}
}

func TestSendManyWithOneFailure(t *testing.T) {
	r := &received{}
	server := httptest.NewServer(r)
	defer server.Close()
	files(t, map[string]string{"data.txt": "just text"})
	code, stdout, stderr := events(t, "send", "--to", server.URL, "--id", "x", "--count", "4", "--concurrency", "2", "--data", "@data.txt")
	if code != 1 || !strings.HasPrefix(stdout, "sent 3, failed 1, ") {
		t.Errorf("send = %d, %q", code, stdout)
	}
	if want := "send x-3: answered 418 I'm a teapot: the third is one too many\n"; stderr != want {
		t.Errorf("stderr = %q, want %q", stderr, want)
	}
	slices.Sort(r.ids)
	if diff := cmp.Diff([]string{"x-1", "x-2", "x-3", "x-4"}, r.ids); diff != "" {
		t.Errorf("ids (-want +got):\n%s", diff)
	}
	if r.most > 2 || r.bodies[0] != "just text" || r.headers[0].Get("Content-Type") != "text/plain" {
		t.Errorf("at once %d, body %q of %s", r.most, r.bodies[0], r.headers[0].Get("Content-Type"))
	}
}

func TestSendFromTheStandardInput(t *testing.T) {
	r := &received{}
	server := httptest.NewServer(r)
	defer server.Close()
	files(t, map[string]string{"in": `{"a":1}`})
	before := os.Stdin
	defer func() { os.Stdin = before }()
	for _, data := range []string{"-", "@-"} {
		in, err := os.Open("in")
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		os.Stdin = in
		if code, stdout, stderr := events(t, "send", "--to", server.URL, "--data", data); code != 0 {
			t.Errorf("send = %d, %q, %q", code, stdout, stderr)
		}
	}
	if diff := cmp.Diff([]string{`{"a":1}`, `{"a":1}`}, r.bodies); diff != "" {
		t.Errorf("bodies (-want +got):\n%s", diff)
	}
}

func TestSendManyHasUniqueIDs(t *testing.T) {
	r := &received{}
	server := httptest.NewServer(r)
	defer server.Close()
	if code, stdout, stderr := events(t, "send", "--to", server.URL, "--count", "200", "--rate", "10000"); code != 0 {
		t.Fatalf("send = %d, %q, %q", code, stdout, stderr)
	}
	slices.Sort(r.ids)
	if got := len(slices.Compact(r.ids)); got != 200 {
		t.Errorf("%d ids, want 200", got)
	}
	if r.bodies[0] != "" || r.headers[0].Get("Content-Type") != "" {
		t.Errorf("body %q of %q, want none", r.bodies[0], r.headers[0].Get("Content-Type"))
	}
}

func TestSendSaysThatNoAnswerCame(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		<-q.Context().Done()
	}))
	defer server.Close()
	code, _, stderr := events(t, "send", "--to", server.URL, "--id", "x", "--timeout", "50ms")
	if want := "send x: post " + server.URL + ": no answer within 50ms (--timeout)\n"; code != 1 || stderr != want {
		t.Errorf("send = %d, %q, want %q", code, stderr, want)
	}
}

func TestSendAtARate(t *testing.T) {
	r := &received{}
	server := httptest.NewServer(r)
	defer server.Close()
	start := time.Now()
	if code, stdout, stderr := events(t, "send", "--to", server.URL, "--count", "20", "--rate", "20"); code != 0 || len(r.ids) != 20 {
		t.Fatalf("send = %d, %q, %q, and %d events arrived", code, stdout, stderr, len(r.ids))
	}
	if took := time.Since(start); took < 900*time.Millisecond {
		t.Errorf("20 events at 20 a second took %s, want 950ms or more", took)
	}
}

func TestSendToNobody(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	code, stdout, stderr := events(t, "send", "--to", server.URL, "--count", "50")
	if code != 1 || stdout != "sent 0, failed 50\n" {
		t.Errorf("send = %d, %q", code, stdout)
	}
	if got := strings.Count(stderr, "\n"); got != shownFailures+1 {
		t.Errorf("%d lines about failures, want %d", got, shownFailures+1)
	}
}

func TestPercentile(t *testing.T) {
	var sorted []time.Duration
	for i := 1; i <= 200; i++ {
		sorted = append(sorted, time.Duration(i)*time.Second)
	}
	for p, want := range map[int]time.Duration{50: 100 * time.Second, 99: 198 * time.Second} {
		if got := percentile(sorted, p); got != want {
			t.Errorf("percentile(%d) = %s, want %s", p, got, want)
		}
		if got := percentile(sorted[:1], p); got != time.Second {
			t.Errorf("percentile(%d) of one = %s, want 1s", p, got)
		}
	}
}

// asProgram in the environment makes the test binary the program.
const asProgram = "EVENTS_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	// Options of the person who runs the tests must not count.
	for _, name := range []string{"EVENTS_LISTEN", "EVENTS_METRICS", "EVENTS_DATA", "EVENTS_OUTPUT", "EVENTS_LOG_LEVEL"} {
		if err := os.Unsetenv(name); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
