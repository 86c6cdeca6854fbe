package dispatch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// rawSink listens and calls serve with each connection, numbered from 0, and closes it afterwards.
func rawSink(t *testing.T, serve func(n int, c net.Conn, r *bufio.Reader)) (*Client, *Sink) {
	t.Helper()
	var n atomic.Int64
	stranger := servers.NewStranger(t, "127.0.0.1:0", func(c net.Conn) { serve(int(n.Add(1)-1), c, bufio.NewReader(c)) })
	c := NewClient(nil)
	t.Cleanup(c.Close)
	s, err := c.Sink(plan.Target{Name: "sink default/fn", URL: "http://" + stranger.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// readRequest reads a request to its end and tells whether there was one.
func readRequest(r *bufio.Reader) (id string, ok bool) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return "", false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return req.Header.Get("Ce-Id"), err == nil
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   int64 // connections for three events
	}{
		"no body":           {func(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted) }, 1},
		"a body":            {func(w http.ResponseWriter) { fmt.Fprint(w, "thanks") }, 1},
		"a chunked body":    {func(w http.ResponseWriter) { fmt.Fprint(w, "a"); w.(http.Flusher).Flush(); fmt.Fprint(w, "b") }, 1},
		"a refusal":         {func(w http.ResponseWriter) { http.Error(w, strings.Repeat("no ", 1000), http.StatusBadRequest) }, 1},
		"an early hint":     {func(w http.ResponseWriter) { w.WriteHeader(http.StatusEarlyHints); w.WriteHeader(http.StatusOK) }, 1},
		"the last":          {func(w http.ResponseWriter) { w.Header().Set("Connection", "close") }, 3},
		"more than is read": {func(w http.ResponseWriter) { fmt.Fprint(w, strings.Repeat("x", maxDrain+1)) }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			var connections atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { tt.answer(w) }))
			server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				if s == http.StateNew {
					connections.Add(1)
				}
			}
			server.Start()
			defer server.Close()
			c := NewClient(nil)
			defer c.Close()
			s, err := c.Sink(plan.Target{URL: server.URL})
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				_ = s.Handle(t.Context(), newEvent(t, "text/plain", []byte("hello")))
			}
			if got := connections.Load(); got != tt.want {
				t.Errorf("connections = %d, want %d", got, tt.want)
			}
		})
	}
}

// Each connection but the last takes one event more than it answers, as one does that the sink is just closing.
func TestAConnectionThatWasClosedWhileIdleIsReplaced(t *testing.T) {
	for _, reads := range []int{1, 2} { // requests that a connection reads; it answers the first
		t.Run(fmt.Sprint(reads), func(t *testing.T) {
			_, s := rawSink(t, func(_ int, c net.Conn, r *bufio.Reader) {
				for i := range reads {
					if _, ok := readRequest(r); ok && i == 0 {
						fmt.Fprint(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
					}
				}
			})
			for range 5 {
				if err := s.Handle(t.Context(), newEvent(t, "", nil)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestASinkThatNeverAnswersIsNotAskedForEver(t *testing.T) {
	var connections atomic.Int64
	_, s := rawSink(t, func(_ int, _ net.Conn, r *bufio.Reader) {
		connections.Add(1)
		readRequest(r)
	})
	if err := s.Handle(t.Context(), newEvent(t, "", nil)); err == nil || event.IsPermanent(err) {
		t.Errorf("Handle() = %v, want an error that trying again may cure", err)
	}
	if got := connections.Load(); got != 1 {
		t.Errorf("connections = %d, want 1", got)
	}
}

// An answer that nobody asked for must not be taken for that of the next event, which would be acknowledged and lost.
func TestAnAnswerTooManyIsNotTheNextEventsAnswer(t *testing.T) {
	const answer = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
	for name, late := range map[string]bool{"together": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			said := make(chan struct{})
			_, s := rawSink(t, func(n int, c net.Conn, r *bufio.Reader) {
				readRequest(r)
				switch {
				case n > 0:
					fmt.Fprint(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
					return
				case late:
					fmt.Fprint(c, answer)
					fmt.Fprint(c, answer)
				default:
					fmt.Fprint(c, answer+answer)
				}
				close(said)
				readRequest(r)
			})
			if err := s.Handle(t.Context(), newEvent(t, "", nil)); err != nil {
				t.Fatal(err)
			}
			<-said
			time.Sleep(50 * time.Millisecond) // lets a second answer that was sent arrive; a test that is too quick passes
			var status *StatusError
			if err := s.Handle(t.Context(), newEvent(t, "", nil)); !errors.As(err, &status) {
				t.Errorf("Handle() = %v, want the 503 of another connection", err)
			}
		})
	}
}

func TestASinkThatRefusesALargeEventUnreadIsHeard(t *testing.T) {
	_, s := rawSink(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r) // not its body
		fmt.Fprint(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
		_, _ = r.ReadByte()
		<-t.Context().Done()
	})
	err := s.Handle(t.Context(), newEvent(t, "application/octet-stream", make([]byte, 16<<20)))
	if !errors.Is(err, event.ErrTooLarge) {
		t.Errorf("Handle() = %v, want that it is too large", err)
	}
}

func TestAnAttemptEndsWithItsContext(t *testing.T) {
	for name, answer := range map[string]string{"no answer": "", "half an answer": "HTTP/1.1 200 O"} {
		t.Run(name, func(t *testing.T) {
			_, s := rawSink(t, func(n int, c net.Conn, r *bufio.Reader) {
				readRequest(r)
				fmt.Fprint(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
				readRequest(r)
				fmt.Fprint(c, answer)
				_, _ = r.ReadByte() // until the other side gives up
			})
			if err := s.Handle(t.Context(), newEvent(t, "", nil)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if err := s.Handle(ctx, newEvent(t, "", nil)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Handle() = %v, want that its time was over", err)
			}
			if err := s.Handle(t.Context(), newEvent(t, "", nil)); err != nil {
				t.Errorf("the next: %v", err)
			}
		})
	}
}

// When a machine is gone without a word, what was connected to it must cost one attempt, not one for each connection.
func TestASilentMachineCostsOneAttempt(t *testing.T) {
	const connections = 4
	together := make(chan struct{}, connections)
	_, s := rawSink(t, func(n int, c net.Conn, r *bufio.Reader) {
		readRequest(r)
		if n < connections {
			together <- struct{}{}
			for len(together) < connections && t.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
		}
		fmt.Fprint(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, r) // and not a word more
	})
	var workers sync.WaitGroup
	for range connections {
		workers.Go(func() {
			if err := s.Handle(t.Context(), newEvent(t, "", nil)); err != nil {
				t.Error(err)
			}
		})
	}
	workers.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Handle(ctx, newEvent(t, "", nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Handle() = %v, want that its time was over", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Handle(ctx, newEvent(t, "", nil)); err != nil {
		t.Errorf("the next: %v", err)
	}
}

func TestAnswersThatAreNoneAreErrors(t *testing.T) {
	for name, answer := range map[string]string{
		"not HTTP":              "SSH-2.0-OpenSSH_9.6\r\n",
		"endless headers":       "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 2000),
		"informational answers": strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100),
	} {
		t.Run(name, func(t *testing.T) {
			_, s := rawSink(t, func(_ int, c net.Conn, r *bufio.Reader) {
				readRequest(r)
				_, _ = io.WriteString(c, answer)
				_, _ = r.ReadByte()
			})
			err := s.Handle(t.Context(), newEvent(t, "", nil))
			if err == nil || event.IsPermanent(err) {
				t.Errorf("Handle() = %v, want an error that trying again may cure", err)
			}
		})
	}
}

func TestAHeaderCannotBeSmuggledIn(t *testing.T) {
	var got http.Header
	s := sinkTo(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
	e := newEvent(t, "", nil)
	e.SetDataContentType("text/plain\r\nAuthorization: me")
	if err := s.Handle(t.Context(), e); err == nil {
		t.Errorf("Handle() = nil, and the sink got %v", got)
	}
}

func TestWhatIsIdleForLongIsClosed(t *testing.T) {
	c, s := rawSink(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			if _, ok := readRequest(r); !ok {
				return
			}
			fmt.Fprint(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
		}
	})
	if err := s.Handle(t.Context(), newEvent(t, "", nil)); err != nil {
		t.Fatal(err)
	}
	c.pool.sweep()
	if got := len(c.pool.idle[s.address]); got != 1 {
		t.Fatalf("%d idle connections, want the one that was just used", got)
	}
	c.pool.idle[s.address][0].since = time.Now().Add(-idleTimeout)
	c.pool.sweep()
	if len(c.pool.idle) != 0 || c.pool.count != 0 || c.pool.sweeper != nil {
		t.Errorf("idle %v, count %d, sweeper %v; want none", c.pool.idle, c.pool.count, c.pool.sweeper)
	}
}

// Many at once, some of which are cut off or answered at length: everyone gets the answer to his own event.
func TestAnswersAreNeverMixedUp(t *testing.T) {
	s := sinkTo(t, func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("Ce-Id")
		switch id[len(id)-1] {
		case '3':
			time.Sleep(5 * time.Millisecond)
		case '5':
			w.Header().Set("Connection", "close")
		case '7':
			w.Header().Set("Padding", strings.Repeat("x", 3000))
		}
		fmt.Fprint(w, id)
	})
	var workers sync.WaitGroup
	for worker := range 16 {
		workers.Go(func() {
			for i := range 100 {
				e := newEvent(t, "text/plain", []byte("hello"))
				e.SetID(fmt.Sprintf("%d-%d", worker, i))
				ctx, cancel := context.WithCancel(t.Context())
				if i%10 == 3 {
					time.AfterFunc(5*time.Millisecond, cancel)
				}
				reply, err := s.Call(ctx, e)
				cancel()
				switch {
				case err == nil && string(reply.Body) != e.ID():
					t.Errorf("the answer to %s is %q", e.ID(), reply.Body)
				case err != nil && i%10 != 3:
					t.Errorf("%s: %v", e.ID(), err)
				}
			}
		})
	}
	workers.Wait()
}
