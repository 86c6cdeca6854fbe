package natsaccess

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/openfunction/events/pkg/plan"
)

// Servers are where to connect to, and as whom.
type Servers struct {
	Access plan.NATSAccess
	URL    string // several separated by commas
	Field  string // of the bus, that has the URL
	Dial   nats.CustomDialer
}

// Connect connects to the first server that lets us in, or says why none does: of several reasons the one that somebody has to cure. The
// client library tells only about the last server, or that there was none.
func Connect(ctx context.Context, s Servers, options ...nats.Option) (*nats.Conn, error) {
	access, err := Options(s.Access)
	if err != nil {
		return nil, err
	}
	options = append(options, access...)
	urls := strings.Split(s.URL, ",")
	why := make([]reason, len(urls))
	for _, i := range rand.Perm(len(urls)) {
		nc, err := s.connect(strings.TrimSpace(urls[i]), options)
		if err == nil {
			return nc, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		why[i] = *err
	}
	worst := why[0]
	for _, r := range why {
		if r.rank > worst.rank {
			worst = r
		}
	}
	return nil, worst.err
}

// reason is why a server did not let us in. One of a greater rank is more important.
type reason struct {
	rank int
	err  error
}

const (
	isAway = iota
	isStrange
	isRefused
)

func (s Servers) connect(url string, options []nats.Option) (*nats.Conn, *reason) {
	listener := &listener{CustomDialer: s.Dial}
	nc, err := nats.Connect(url, append(options[:len(options):len(options)], nats.SetCustomDialer(listener), nats.SkipHostLookup(),
		nats.IgnoreDiscoveredServers(), nats.NoReconnect())...)
	if err == nil {
		return nc, nil
	}
	if listener.err != nil { // which the library keeps to itself
		return nil, &reason{isAway, listener.err}
	}
	if explained := Explain(s.Access, url, err); explained != nil {
		return nil, &reason{isRefused, fmt.Errorf("nats %s: %w", listener.address, explained)}
	}
	if what := listener.heard(err, strings.HasPrefix(url, "ws")); what != "" {
		return nil, &reason{isStrange, fmt.Errorf("what answers at %s is no NATS server (%s): correct the host and the port in %s", listener.address, what, s.Field)}
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) { // it also has our port, which is another one each time
		err = fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return nil, &reason{isStrange, fmt.Errorf("nats %s: %w", listener.address, err)}
}

// listener is a nats.CustomDialer that remembers how the last connection began.
type listener struct {
	nats.CustomDialer
	address string
	err     error // of Dial
	conn    *opening
}

func (l *listener) Dial(network, address string) (net.Conn, error) {
	conn, err := l.CustomDialer.Dial(network, address)
	l.address, l.err = address, err
	if err != nil {
		return nil, err
	}
	l.conn = &opening{Conn: conn}
	return l.conn, nil
}

// opening is a connection that remembers what it read first.
type opening struct {
	net.Conn
	first []byte
}

func (o *opening) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	if missing := len(greeting) - len(o.first); missing > 0 {
		o.first = append(o.first, p[:min(n, missing)]...)
	}
	return n, err
}

const greeting = "INFO "

// heard says how what the server said is not what a NATS server says, or "". err is what the library made of it.
func (l *listener) heard(err error, ws bool) string {
	if l.conn == nil {
		return ""
	}
	var silence net.Error
	switch first := string(l.conn.first); {
	case first == "" && errors.As(err, &silence) && silence.Timeout():
		return "it says nothing"
	case first == "":
		return "it ends the connection without a word"
	case ws && strings.Contains(err.Error(), "invalid websocket connection"):
		return "it speaks HTTP, but no NATS over WebSocket"
	case ws || strings.EqualFold(first, greeting):
		return ""
	case first == "HTTP/":
		return "it speaks HTTP"
	}
	return "it greets as something else"
}
