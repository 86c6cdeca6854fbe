package mqtt

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"

	"github.com/openfunction/events/pkg/gateway/peer"
	"github.com/openfunction/events/pkg/plan"
)

// endpoint is where a broker is and how it is reached.
type endpoint struct {
	address            string      // host:port
	tls                *tls.Config // nil: none
	websocket          string      // the URL; empty: none
	username, password string
}

// schemes are those that a URL may have: the usual port, and what the connection is wrapped in.
var schemes = map[string]struct {
	port           string
	tls, websocket bool
}{
	"tcp":   {port: "1883"},
	"mqtt":  {port: "1883"},
	"ssl":   {port: "8883", tls: true},
	"tls":   {port: "8883", tls: true},
	"mqtts": {port: "8883", tls: true},
	"ws":    {port: "80", websocket: true},
	"wss":   {port: "443", tls: true, websocket: true},
}

func newEndpoint(m *plan.MQTT) (*endpoint, error) {
	u, err := url.Parse(m.URL)
	if err != nil {
		return nil, fmt.Errorf("its url cannot be read: want for example tcp://host:1883") // the error holds the URL, and that a password
	}
	scheme, ok := schemes[u.Scheme]
	if !ok || u.Hostname() == "" {
		return nil, fmt.Errorf("url %s: want tcp, mqtt, ssl, tls, mqtts, ws or wss and a host, for example tcp://host:1883", plan.HideURL(m.URL))
	}
	port := u.Port()
	if port == "" {
		port = scheme.port
	}
	e := &endpoint{address: net.JoinHostPort(u.Hostname(), port), username: m.Username, password: m.Password}
	if e.username == "" && u.User != nil {
		e.username = u.User.Username()
		e.password, _ = u.User.Password()
	}
	if e.tls, err = m.TLS.Config(); err != nil {
		return nil, err
	}
	if e.tls == nil && scheme.tls {
		e.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if scheme.websocket {
		e.websocket = websocketURL(u, e)
	}
	return e, nil
}

// websocketURL has the path that most brokers serve MQTT at, unless it has one.
func websocketURL(u *url.URL, e *endpoint) string {
	w := url.URL{Scheme: "ws", Host: e.address, Path: u.Path, RawQuery: u.RawQuery}
	if e.tls != nil {
		w.Scheme = "wss"
	}
	if w.Path == "" {
		w.Path = "/mqtt"
	}
	return w.String()
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// dial returns a connection that packets can be written to.
func (e *endpoint) dial(ctx context.Context, dial dialFunc) (net.Conn, error) {
	if e.tls != nil {
		dial = e.secured(dial)
	}
	if e.websocket == "" {
		return dial(ctx, "tcp", e.address)
	}
	var raw *answering
	limited := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		raw = &answering{Conn: conn, left: maxAnswer}
		return raw, nil
	}
	d := websocket.Dialer{NetDialContext: limited, NetDialTLSContext: limited, Subprotocols: []string{"mqtt"}}
	conn, answer, err := d.DialContext(ctx, e.websocket, nil)
	var silent net.Error
	switch {
	case err == nil:
	case answer != nil:
		return nil, &noWebsocket{fmt.Sprintf("no websocket at %s: HTTP %d %s", plan.HideURL(e.websocket), answer.StatusCode, http.StatusText(answer.StatusCode))}
	case raw == nil:
		return nil, err
	case len(raw.first) > 0 && !bytes.HasPrefix(raw.first, []byte("HTTP/")):
		return nil, &stranger{raw.first}
	case errors.As(err, &silent) && silent.Timeout():
		return nil, &stranger{}
	default:
		return nil, &hungUp{err}
	}
	raw.left = unlimited
	return &websocketConn{Conn: conn}, nil
}

// noWebsocket is the error of a web server that has none there.
type noWebsocket struct{ text string }

func (e *noWebsocket) Error() string { return e.text }

const unlimited = math.MaxInt

// answering is a connection over which an HTTP server answers: nothing else bounds how much of an answer is read.
type answering struct {
	net.Conn
	left  int    // bytes
	first []byte // of the answer
}

func (a *answering) Read(b []byte) (int, error) {
	if a.left <= 0 {
		return 0, fmt.Errorf("the answer of the HTTP server is longer than %d bytes", maxAnswer)
	}
	n, err := a.Conn.Read(b[:min(len(b), a.left)])
	if a.first == nil {
		a.first = bytes.Clone(b[:min(n, 16)])
	}
	if a.left != unlimited {
		a.left -= n
	}
	return n, err
}

func (e *endpoint) secured(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return peer.Handshake(ctx, conn, e.tls, address)
	}
}

// websocketConn is a stream of bytes over the binary messages of a websocket, which may be of any size.
type websocketConn struct {
	*websocket.Conn
	message io.Reader // nil: none has begun
}

func (c *websocketConn) Read(b []byte) (int, error) {
	for {
		if c.message == nil {
			_, message, err := c.NextReader()
			if err != nil {
				return 0, err
			}
			c.message = message
		}
		n, err := c.message.Read(b)
		if err == io.EOF {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (c *websocketConn) Write(b []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (c *websocketConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}
