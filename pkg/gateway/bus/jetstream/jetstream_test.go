package jetstream_test

import (
	"context"
	"net"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccess"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccesstest"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// broker is a server in this process that can be stopped and started with its data. It is a nats.InProcessConnProvider.
type broker struct {
	dir    string
	port   int              // 0: in process only
	access *embedded.Access // who is let in over TCP
	s      atomic.Pointer[embedded.Server]
}

func newBroker(t testing.TB, tcp bool) *broker {
	b := &broker{dir: t.TempDir()}
	if tcp {
		authority := servers.NewAuthority(t)
		c := authority.Server()
		b.port, b.access = -1, &embedded.Access{Username: "events", Password: "right-s3cret", CACerts: authority.Cert, Cert: c.Cert, Key: c.Key}
	}
	b.start(t)
	t.Cleanup(func() { b.s.Load().Close() })
	return b
}

func (b *broker) start(t testing.TB) {
	o := embedded.Options{Dir: b.dir, SyncInterval: time.Second}
	if b.port != 0 {
		o.Host, o.Port, o.Access = "127.0.0.1", max(0, b.port), b.access
	}
	s, err := embedded.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	b.s.Store(s)
	if b.port == -1 {
		u, err := url.Parse(s.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		b.port, _ = strconv.Atoi(u.Port())
	}
}

func (b *broker) stop(testing.TB) { b.s.Load().Close() }

// wipe starts the server anew without its data.
func (b *broker) wipe(t testing.TB) {
	b.stop(t)
	b.dir = t.TempDir()
	b.start(t)
}

func (b *broker) InProcessConn() (net.Conn, error) { return b.s.Load().InProcessConn() }

func (b *broker) options() jetstream.Options {
	o := jetstream.Options{Name: "EventBus test/test", Config: plan.JetStream{AckWait: ackWait}}
	if b.port == 0 {
		o.InProcess = b
		return o
	}
	o.Config.URL = b.s.Load().ClientURL()
	o.Config.NATSAccess = plan.NATSAccess{Username: b.access.Username, Password: b.access.Password, TLS: &plan.TLS{CACerts: b.access.CACerts}}
	return o
}

func (b *broker) connect(t testing.TB) *nats.Conn {
	t.Helper()
	o := b.options()
	if o.InProcess == nil {
		return connect(t, o.Config)
	}
	nc, err := nats.Connect("", nats.InProcessServer(b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// connect returns a connection of the plain library, as other programs have.
func connect(t testing.TB, c plan.JetStream) *nats.Conn {
	t.Helper()
	options, err := natsaccess.Options(c.NATSAccess)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(c.URL, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

const ackWait = 2 * time.Second

func fixture(b *broker) bustest.Fixture {
	return bustest.Fixture{
		New:     func(testing.TB) bus.Bus { return jetstream.New(context.Background(), b.options()) },
		AckWait: ackWait,
		PublishRaw: func(t testing.TB, topic string, data []byte) {
			if _, err := b.connect(t).Request(topic, data, 5*time.Second); err != nil {
				t.Fatalf("publish to %s: %v", topic, err)
			}
		},
		Dedup: true,
		Stop:  b.stop,
		Start: b.start,
	}
}

func TestConformanceInProcess(t *testing.T) {
	t.Parallel() // it waits more than it works
	bustest.Run(t, fixture(newBroker(t, false)))
}

func TestConformanceTCP(t *testing.T) {
	t.Parallel()
	b := newBroker(t, true)
	f := fixture(b)
	f.Refusals = refusals(t, b.options().Config)
	bustest.Run(t, f)
}

// refusals returns what is wrong in other ways than right, which has a user and a password over TLS.
func refusals(t testing.TB, right plan.JetStream) []bustest.Refusal {
	open := func(ctx context.Context, c plan.JetStream) bus.Bus {
		return jetstream.New(ctx, jetstream.Options{Name: "EventBus test/test", Config: c})
	}
	away := right
	away.URL = "nats://127.0.0.1:1"
	list := natsaccesstest.Refusals(t, right.NATSAccess, servers.NewAuthority(t).Cert, func(ctx context.Context, a plan.NATSAccess) bus.Bus {
		c := right
		c.NATSAccess = a
		return open(ctx, c)
	})
	return append(list, bustest.Refusal{
		Name: "an address where nobody listens", Want: []string{"127.0.0.1:1", "connection refused: start the server, or correct url"},
		New: func(ctx context.Context, _ testing.TB) bus.Bus { return open(ctx, away) },
	})
}
