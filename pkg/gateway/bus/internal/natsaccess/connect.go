package natsaccess

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/openfunction/events/pkg/gateway/peer"
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
	listener := &listener{CustomDialer: s.Dial, ws: strings.HasPrefix(url, "ws")}
	nc, err := nats.Connect(url, append(options[:len(options):len(options)], nats.SetCustomDialer(listener), nats.SkipHostLookup(),
		nats.IgnoreDiscoveredServers(), nats.NoReconnect())...)
	if err == nil {
		return nc, nil
	}
	if listener.err != nil { // which the library keeps to itself
		return nil, &reason{isAway, fmt.Errorf("%w: start the server, or correct %s", listener.err, s.Field)}
	}
	if explained := Explain(s.Access, url, err); explained != nil {
		return nil, &reason{isRefused, fmt.Errorf("nats %s: %w", listener.address, explained)}
	}
	if strange := listener.strange(err, s.Field); strange != nil {
		err = strange
	} else if op := (*net.OpError)(nil); errors.As(err, &op) { // it also has our port, which is another one each time
		err = fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return nil, &reason{isStrange, fmt.Errorf("nats %s: %w", listener.address, err)}
}

// listener is a nats.CustomDialer that remembers how the last connection began.
type listener struct {
	nats.CustomDialer
	ws      bool
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
	l.conn = &opening{Conn: conn, ws: l.ws}
	return l.conn, nil
}

// Wary returns conn, to one of urls, that reads nothing more once it is clear that no NATS server answers.
func Wary(conn net.Conn, urls string) net.Conn {
	return &opening{Conn: conn, ws: strings.HasPrefix(urls, "ws")}
}

// opening is a connection that remembers what it read first, and reads no more if a NATS server would not say that: the library waits for
// the end of a line that may have none.
type opening struct {
	net.Conn
	ws    bool
	first []byte
}

func (o *opening) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	if missing := len(greeting) - len(o.first); missing > 0 {
		o.first = append(o.first, p[:min(n, missing)]...)
		if !o.ws && !strings.EqualFold(string(o.first), greeting[:len(o.first)]) {
			return n, errStrange
		}
	}
	return n, err
}

const greeting = "INFO "

var errStrange = errors.New("not a NATS server")

// strange returns a sentence for what did not begin as a NATS server does, which greets in the clear; nil if it did. err is what the library made
// of it, and field has the URL.
func (l *listener) strange(err error, field string) error {
	if l.conn == nil {
		return nil
	}
	p := peer.Peer{Name: "the server", Kind: "a NATS server", Address: "correct the host and the port in " + field}
	if l.ws {
		p.Kind = "a NATS server that speaks WebSocket"
	}
	var silence net.Error
	first := l.conn.first
	switch {
	case len(first) == 0 && !(errors.As(err, &silence) && silence.Timeout()):
		return p.HangsUp()
	case len(first) == 0, l.ws && strings.Contains(err.Error(), "invalid websocket connection"), !l.ws && !strings.EqualFold(string(first), greeting):
		return p.Stranger(first)
	}
	return nil
}
