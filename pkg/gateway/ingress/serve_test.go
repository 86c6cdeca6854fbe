package ingress

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
)

func handle(f func(ctx context.Context, e *event.Event) error) []*Route {
	o := RouteOptions{Namespace: "ns", EventSource: "es", Event: "e", HTTP: plan.HTTP{MaxBodyBytes: 1 << 20}, Next: event.HandlerFunc(f)}
	return []*Route{{RouteOptions: o, refusals: &refusals{}}}
}

// start serves i on a port of its own and returns its address, and what stops it and returns Serve's error.
func start(t *testing.T, i *Ingress, grace time.Duration, configure func(*http.Server)) (address string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	server := newServer(ctx, i.Handler())
	if configure != nil {
		configure(server)
	}
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, ln, server, grace) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		_ = stop()
		i.Close()
	})
	return ln.Addr().String(), stop
}

const post = "POST /ns/es/e HTTP/1.1\r\nHost: h\r\nce-specversion: 1.0\r\nce-id: 1\r\nce-source: /s\r\nce-type: t\r\n"

// dial opens a connection and writes what is given.
func dial(t *testing.T, address, request string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return conn
}

func status(t *testing.T, conn net.Conn) int {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("read response: %v", err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return response.StatusCode
}

func TestABodyThatNeverEndsIsGivenUp(t *testing.T) {
	i := New(Options{})
	i.SetRoutes(handle(func(context.Context, *event.Event) error {
		t.Error("an event was made of half a body")
		return nil
	}))
	address, _ := start(t, i, time.Second, func(s *http.Server) { s.ReadTimeout = 100 * time.Millisecond })
	for name, request := range map[string]string{
		"short of its length": post + "Content-Length: 10\r\n\r\nhalf",
		"chunked":             post + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
	} {
		if got := status(t, dial(t, address, request)); got != http.StatusRequestTimeout {
			t.Errorf("%s: status = %d, want %d", name, got, http.StatusRequestTimeout)
		}
	}
}

func TestAnUnknownRouteIsAnsweredBeforeTheBody(t *testing.T) {
	i := New(Options{})
	i.SetRoutes(handle(nil))
	address, _ := start(t, i, time.Second, nil)
	for name, tt := range map[string]struct {
		request string
		want    int
	}{
		"unknown route":  {strings.Replace(post, "/ns/es/e", "/ns/es/x", 1) + "Expect: 100-continue\r\nContent-Length: 10\r\n\r\n", 404},
		"too large body": {post + "Expect: 100-continue\r\nContent-Length: 10000000\r\n\r\n", 413},
		"unknown format": {post + "Content-Type: application/cloudevents+xml\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n", 415},
	} {
		if got := status(t, dial(t, address, tt.request)); got != tt.want {
			t.Errorf("%s: status = %d, want %d", name, got, tt.want)
		}
	}
}

func TestHangingUpDoesNotCancel(t *testing.T) {
	entered, gone, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	i := New(Options{})
	i.SetRoutes(handle(func(ctx context.Context, _ *event.Event) error {
		close(entered)
		<-gone
		result <- ctx.Err()
		return ctx.Err()
	}))
	callerGone := make(chan struct{})
	address, _ := start(t, i, 5*time.Second, func(s *http.Server) {
		h := s.Handler
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			context.AfterFunc(r.Context(), func() { close(callerGone) })
			h.ServeHTTP(w, r)
		})
	})
	conn := dial(t, address, post+"Content-Length: 1\r\n\r\na")
	<-entered
	_ = conn.Close()
	<-callerGone
	close(gone)
	if err := <-result; err != nil {
		t.Errorf("context after the caller hung up = %v, want it to live on", err)
	}
}

func TestHalfAConnectionIsNotToldThatAllIsWell(t *testing.T) {
	entered, gone := make(chan struct{}), make(chan struct{})
	i := New(Options{})
	i.SetRoutes(handle(func(context.Context, *event.Event) error {
		close(entered)
		<-gone
		return fmt.Errorf("broken pipe")
	}))
	address, _ := start(t, i, 5*time.Second, func(s *http.Server) {
		h := s.Handler
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			context.AfterFunc(r.Context(), func() { close(gone) })
			h.ServeHTTP(w, r)
		})
	})
	conn := dial(t, address, post+"\r\n")
	<-entered
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := status(t, conn); got != http.StatusBadGateway {
		t.Errorf("status = %d, want %d", got, http.StatusBadGateway)
	}
}

func TestHandlingIsBoundedInTime(t *testing.T) {
	i := New(Options{Timeout: 50 * time.Millisecond})
	i.SetRoutes(handle(func(ctx context.Context, _ *event.Event) error {
		<-ctx.Done()
		return fmt.Errorf("publish: %w", ctx.Err())
	}))
	address, _ := start(t, i, time.Second, nil)
	if got := status(t, dial(t, address, post+"\r\n")); got != http.StatusServiceUnavailable {
		t.Errorf("status = %d, want 503", got)
	}
}

func TestStopFinishesWhatIsInside(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	i := New(Options{})
	i.SetRoutes(handle(func(context.Context, *event.Event) error {
		close(entered)
		<-release
		return nil
	}))
	address, stop := start(t, i, 20*time.Second, nil)
	conn := dial(t, address, post+"\r\n")
	<-entered
	i.Drain()
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	refused := false
	for deadline := time.Now().Add(10 * time.Second); !refused && time.Now().Before(deadline); {
		another, err := net.Dial("tcp", address)
		refused = err != nil
		if err == nil {
			_ = another.Close()
		}
	}
	if !refused {
		t.Error("connections are still taken, want them refused")
	}
	close(release)
	if got := status(t, conn); got != accepted {
		t.Errorf("status of the request that was inside = %d, want %d", got, accepted)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve() = %v, want nil", err)
	}
}

const accepted = http.StatusAccepted

func TestStopIsBounded(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan error, 1)
	i := New(Options{})
	i.SetRoutes(handle(func(ctx context.Context, _ *event.Event) error {
		close(entered)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}))
	address, stop := start(t, i, 50*time.Millisecond, nil)
	dial(t, address, post+"\r\n")
	<-entered
	if err := stop(); err == nil || !strings.Contains(err.Error(), "still inside after 50ms") {
		t.Errorf("Serve() = %v, want an error that requests were still inside", err)
	}
	i.Close() // returns only once the handler has
	select {
	case err := <-ended:
		if err != context.Canceled {
			t.Errorf("context of the handler = %v, want it cancelled", err)
		}
	default:
		t.Error("Close returned before the handler did")
	}
}

func TestServeSaysWhatItCannotServe(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if err := Serve(t.Context(), ln, http.NotFoundHandler(), time.Second); err == nil || !strings.Contains(err.Error(), "serve 127.0.0.1:") {
		t.Errorf("Serve on a closed listener = %v, want an error with its address", err)
	}
}

func TestRequestsInsideAreBounded(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	i := New(Options{MaxConcurrent: 4})
	next := event.HandlerFunc(func(context.Context, *event.Event) error {
		entered <- struct{}{}
		<-release
		return nil
	})
	var routes []*Route
	for _, name := range []string{"a", "b", "c", "d"} {
		r, err := i.NewRoute(RouteOptions{Namespace: "ns", EventSource: "es", Event: name, Next: next})
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, r)
	}
	i.SetRoutes(routes)
	core, logs := observer.New(zapcore.InfoLevel)
	address, _ := start(t, i, 5*time.Second, func(server *http.Server) {
		h := server.Handler
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r.WithContext(logging.WithLogger(r.Context(), zap.New(core).Sugar())))
		})
	})
	var conns []net.Conn
	to := func(name string) string { return strings.Replace(post, "/e ", "/"+name+" ", 1) + "\r\n" }
	enters := func(name string) {
		conns = append(conns, dial(t, address, to(name)))
		<-entered
	}
	isRefused := func(name, want string) {
		t.Helper()
		response, err := http.ReadResponse(bufio.NewReader(dial(t, address, to(name))), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		if got := response.Header.Get("Retry-After"); response.StatusCode != 503 || got != "1" || !strings.Contains(string(body), want) {
			t.Errorf("%s = %d with Retry-After %q: %s, want 503 with 1: %s", name, response.StatusCode, got, body, want)
		}
	}
	enters("a")
	enters("a")
	isRefused("a", "too many requests to this event are inside") // half is for others
	isRefused("a", "too many requests to this event are inside")
	enters("b")
	isRefused("b", "too many requests to this event are inside")
	enters("c")
	isRefused("d", "too many requests are inside")
	close(release)
	for _, conn := range conns {
		if got := status(t, conn); got != accepted {
			t.Errorf("status of those inside = %d, want %d", got, accepted)
		}
	}
	for range 2 {
		conn := dial(t, address, to("a"))
		<-entered
		if got := status(t, conn); got != accepted {
			t.Errorf("status afterwards = %d, want %d", got, accepted)
		}
	}
	var says []string
	for _, l := range logs.All() {
		says = append(says, fmt.Sprint(l.Message, l.ContextMap()["event"]))
	}
	want := []string{
		"posts are refused: too many to this event are insideEventSource ns/es http event a",
		"posts are refused: too many to this event are insideEventSource ns/es http event b",
		"posts are refused: too many are insideEventSource ns/es http event d",
		"posts are taken again<nil>",
		"posts to this event are taken againEventSource ns/es http event a",
	}
	if diff := cmp.Diff(want, says); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// The bodies that are inside have a bound too, of which a route may have half. What a body had is free once its event is handed over, whether
// it said how long it is or not, and whether it came whole or not.
func TestBodiesInsideAreBounded(t *testing.T) {
	const size = 100 << 10
	entered, release := make(chan struct{}, 100), make(chan struct{})
	i := New(Options{MaxBytes: 8 * size})
	var routes []*Route
	for _, name := range []string{"a", "b"} {
		r, err := i.NewRoute(RouteOptions{Namespace: "ns", EventSource: "es", Event: name, Next: event.HandlerFunc(func(context.Context, *event.Event) error {
			entered <- struct{}{}
			<-release
			return nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, r)
	}
	i.SetRoutes(routes)
	address, _ := start(t, i, 5*time.Second, nil)
	head := func(name, more string) string { return strings.Replace(post, "/e ", "/"+name+" ", 1) + more + "\r\n" }
	whole := func(name string) string {
		return head(name, fmt.Sprintf("Content-Length: %d\r\n", size)) + strings.Repeat("x", size)
	}
	chunked := func(name string) string {
		return head(name, "Transfer-Encoding: chunked\r\n") + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, strings.Repeat("x", size))
	}
	for range 3 {
		var inside []net.Conn
		enters := func(request string) {
			inside = append(inside, dial(t, address, request))
			<-entered
		}
		enters(whole("a"))
		enters(chunked("a"))
		enters(whole("a"))
		response, err := http.ReadResponse(bufio.NewReader(dial(t, address, whole("a"))), nil)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != 503 || response.Header.Get("Retry-After") != "1" {
			t.Errorf("the fourth of a route = %d, want 503 with Retry-After 1", response.StatusCode)
		}
		enters(whole("b"))
		cut := dial(t, address, head("b", fmt.Sprintf("Content-Length: %d\r\n", size))+"x") // and no more
		_ = cut.Close()
		for range inside {
			release <- struct{}{}
		}
		for _, conn := range inside {
			if got := status(t, conn); got != accepted {
				t.Errorf("status of those inside = %d, want %d", got, accepted)
			}
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for !routes[1].bytes.Try(4*size-1) || !routes[0].bytes.Try(2*size) {
		if time.Now().After(deadline) {
			t.Fatal("with nothing inside there is no room")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A body as large as its event may have is taken whatever room there is for all, as long as it is the only one of its event.
func TestALargeBodyHasRoom(t *testing.T) {
	const size = 4 << 20
	i := New(Options{MaxBytes: size})
	r, err := i.NewRoute(RouteOptions{Namespace: "ns", EventSource: "es", Event: "e", HTTP: plan.HTTP{MaxBodyBytes: size},
		Next: event.HandlerFunc(func(context.Context, *event.Event) error { return nil })})
	if err != nil {
		t.Fatal(err)
	}
	i.SetRoutes([]*Route{r})
	address, _ := start(t, i, 5*time.Second, nil)
	for range 2 {
		conn := dial(t, address, post+fmt.Sprintf("Content-Length: %d\r\n\r\n", size)+strings.Repeat("x", size))
		if got := status(t, conn); got != accepted {
			t.Errorf("status = %d, want %d", got, accepted)
		}
	}
	if !r.bytes.Try(size) {
		t.Error("with nothing inside there is no room")
	}
}

func TestRoutesAreSwappedUnderLoad(t *testing.T) {
	var taken [2]atomic.Int64
	tables := [2][]*Route{}
	for n := range tables {
		tables[n] = handle(func(_ context.Context, e *event.Event) error {
			if got, want := string(e.Data()), e.ID(); got != want {
				t.Errorf("data = %q, want %q", got, want)
			}
			taken[n].Add(1)
			return nil
		})
	}
	i := New(Options{})
	i.SetRoutes(tables[0])
	address, _ := start(t, i, 5*time.Second, nil)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()

	const callers, each = 64, 20
	var group sync.WaitGroup
	for c := range callers {
		group.Go(func() {
			for n := range each {
				id := fmt.Sprintf("%d-%d", c, n)
				r, _ := http.NewRequest("POST", "http://"+address+"/ns/es/e", strings.NewReader(id))
				for name, value := range map[string]string{"ce-specversion": "1.0", "ce-id": id, "ce-source": "/s", "ce-type": "t"} {
					r.Header.Set(name, value)
				}
				response, err := client.Do(r)
				if err != nil {
					t.Errorf("post %s: %v", id, err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if response.StatusCode != accepted {
					t.Errorf("post %s: status = %d, want %d", id, response.StatusCode, accepted)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	for n := 1; ; n++ {
		i.SetRoutes(tables[n%2])
		select {
		case <-done:
			if got := taken[0].Load() + taken[1].Load(); got != callers*each {
				t.Errorf("%d events taken, want %d", got, callers*each)
			}
			return
		case <-time.After(100 * time.Microsecond):
		}
	}
}
