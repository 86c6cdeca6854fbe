package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/peer"
	"github.com/openfunction/events/pkg/plan"
)

// client returns a client of the server, the Sentinels or the cluster of the plan. It connects when it is used.
func (s *Source) client(d *dialer) redis.UniversalClient {
	p := s.redis
	o := &redis.UniversalOptions{
		Addrs:            p.Addresses,
		MasterName:       p.MasterName,
		IsClusterMode:    p.Cluster,
		Username:         p.Username,
		Password:         p.Password,
		SentinelUsername: p.SentinelUsername,
		SentinelPassword: p.SentinelPassword,
		DB:               p.DB,
		Dialer:           d.dial,
		DialerRetries:    1, // commands are tried again, and so are we
		Protocol:         2,
		DisableIdentity:  true,
		MaxRetries:       max(p.MaxRetries, -1),
		MinRetryBackoff:  atLeastOff(p.MinRetryInterval),
		MaxRetryBackoff:  atLeastOff(p.MaxRetryInterval),
		DialTimeout:      atLeastOff(p.DialTimeout),
		ReadTimeout:      atLeastOff(p.ReadTimeout),
		WriteTimeout:     atLeastOff(p.WriteTimeout),
		PoolTimeout:      p.PoolTimeout,
		PipelinePoolSize: -1, // it would be beyond PoolSize
		MinIdleConns:     max(p.MinIdleConns, 0),
		ConnMaxLifetime:  p.MaxConnAge,
		ConnMaxIdleTime:  p.IdleTimeout,

		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if p.PoolSize > 0 {
		o.PoolSize = p.PoolSize + 1 // a read that waits has one to itself
	}
	if p.PoolTimeout < 0 {
		o.PoolTimeout = time.Hour // the client knows no end of waiting
	}
	switch {
	case p.MasterName != "":
		return redis.NewFailoverClient(o.Failover())
	case p.Cluster:
		c := o.Cluster()
		c.DisableRoutingPolicies = true // they need the server's list of commands, and every command here has its key
		return redis.NewClusterClient(c)
	}
	return redis.NewClient(o.Simple())
}

// atLeastOff makes all that is switched off the client's -1: its -2 means something else.
func atLeastOff(d time.Duration) time.Duration { return max(d, -1) }

// clientLogger keeps what the client complains about while it recovers by itself; it would write that to standard error. The client has
// one logger for all of a process, so it is the context that knows whose complaint it is.
type clientLogger struct{}

// Printf implements the client's logging.
func (clientLogger) Printf(ctx context.Context, format string, args ...any) {
	text := fmt.Sprintf("redis client: "+format, args...)
	if redact, ok := ctx.Value(redactKey{}).(func(string) string); ok { // what a server says may be what it was told
		text = redact(text)
	}
	logging.FromContext(ctx).Debug(text)
}

// redactKey is the key of a context whose complaints may hold secrets: the function that takes them out.
type redactKey struct{}

// dialer makes the connections of a run, with TLS where the plan has it: the client leaves that to whoever brings a dialer.
type dialer struct {
	plain func(ctx context.Context, network, address string) (net.Conn, error)
	tls   *tls.Config

	// lost counts the connections that failed. The client tries again by itself, but what an answer that never came had delivered has
	// to be asked for.
	lost atomic.Int64

	// silence is how long a server may be silent to a client that waits without a bound before it is asked whether it is there, and how
	// long that answer may take. Zero asks for nothing.
	silence time.Duration

	// asked is the host that answered last, a string.
	asked atomic.Value
}

func newDialer(plain func(ctx context.Context, network, address string) (net.Conn, error), t *plan.TLS) (*dialer, error) {
	config, err := t.Config()
	if err != nil {
		return nil, err
	}
	if plain == nil {
		plain = new(net.Dialer).DialContext
	}
	return &dialer{plain: plain, tls: config}, nil
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if asked, ok := d.asked.Load().(string); ok && host == "" { // a node of a cluster that does not know its own means the one that was asked
		host, address = asked, net.JoinHostPort(asked, port)
	}
	c, err := d.plain(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if d.tls != nil {
		if c, err = peer.Handshake(ctx, c, d.tls, address); err != nil {
			return nil, err
		}
	}
	d.asked.Store(host)
	return &conn{Conn: c, lost: &d.lost, silence: d.silence}, nil
}

type conn struct {
	net.Conn
	lost    *atomic.Int64
	silence time.Duration
	endless bool // the client waits without a bound
	bound   bound
	refused error // what bound said: the client may read on
}

// SetReadDeadline is called by whoever reads.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.endless = t.IsZero()
	return c.Conn.SetReadDeadline(t)
}

// Read counts a failure, and fails at what is too large or no answer.
func (c *conn) Read(b []byte) (int, error) {
	if c.refused != nil {
		return 0, c.refused
	}
	read := c.Conn.Read
	if c.endless && c.silence > 0 {
		read = c.listen
	}
	n, err := read(b)
	if n, c.refused = c.bound.pass(b[:n]); c.refused != nil {
		return n, c.refused
	}
	if err != nil {
		c.lost.Add(1)
	}
	return n, err
}

var ping = []byte("*1\r\n$4\r\nPING\r\n")

// listen reads from a server that may have nothing to say for long. The client knows nothing of the question; the answer is no message to it.
func (c *conn) listen(b []byte) (int, error) {
	if err := c.Conn.SetDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	var timeout net.Error
	if n > 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		return n, err
	}
	if err := c.Conn.SetDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	if _, err := c.Conn.Write(ping); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}
