package servers

import (
	"net"
	"sync"
	"testing"
)

// HTTP is what a web server answers to what it does not understand.
const HTTP = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"

// TLSAlert is what a server of TLS answers to what is none.
const TLSAlert = "\x15\x03\x03\x00\x02\x02\x50"

// Answer returns a conversation for Stranger: whoever says something is answered so.
func Answer(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = c.Write([]byte(text))
	}
}

// Greet returns a conversation for Stranger: whoever connects is told text, and is heard until it hangs up.
func Greet(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = c.Write([]byte(text))
		Silence(c)
	}
}

// Silence is a conversation for Stranger: nothing is said until the client hangs up.
func Silence(c net.Conn) {
	for b := make([]byte, 4096); ; {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// Stranger is a server that is none of those that somebody looks for.
type Stranger struct {
	// Close ends it and all connections. Calling it again does nothing.
	Close func()

	listener net.Listener
}

// NewStranger listens at an address, "127.0.0.1:0" for any port, until the test ends, and talks to all who connect at once. Who was talked to is hung up on.
func NewStranger(t testing.TB, address string, talk func(net.Conn)) *Stranger {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var talking sync.WaitGroup
	conns, closed := map[net.Conn]bool{}, false
	talking.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			if closed {
				_ = c.Close()
			}
			mu.Unlock()
			talking.Go(func() {
				talk(c)
				mu.Lock()
				defer mu.Unlock()
				delete(conns, c)
				_ = c.Close()
			})
		}
	})
	s := &Stranger{listener: l}
	s.Close = sync.OnceFunc(func() {
		_ = l.Close()
		mu.Lock()
		closed = true
		for c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		talking.Wait()
	})
	t.Cleanup(s.Close)
	return s
}

// Addr is where it listens.
func (s *Stranger) Addr() string { return s.listener.Addr().String() }
