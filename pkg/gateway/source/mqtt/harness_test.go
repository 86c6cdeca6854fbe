package mqtt

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/zap"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// versions are the protocols that every test of behaviour runs with.
var versions = map[string]int{"version 5": 5, "version 3.1.1": 3}

// broker is an MQTT broker in this process.
type broker struct {
	t      *testing.T
	server *mochi.Server
	addr   string
}

type brokerOptions struct {
	tls       *tls.Config
	websocket bool
	users     map[string]string
}

func newBroker(t *testing.T, o brokerOptions) *broker {
	t.Helper()
	b := &broker{t: t, addr: "127.0.0.1:0"}
	if o.websocket {
		b.addr = servers.FreeAddress(t)
	}
	b.serve(o)
	t.Cleanup(func() { _ = b.server.Close() })
	return b
}

// serve starts the broker at its address, without what one before it had.
func (b *broker) serve(o brokerOptions) {
	b.t.Helper()
	b.server = mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	ledger := &auth.Ledger{Auth: auth.AuthRules{{Allow: len(o.users) == 0}}}
	for name, password := range o.users {
		ledger.Auth = append(ledger.Auth, auth.AuthRule{Username: auth.RString(name), Password: auth.RString(password), Allow: true})
	}
	if len(o.users) > 0 {
		ledger.Auth = ledger.Auth[1:]
	}
	config := listeners.Config{ID: "test", Address: b.addr, TLSConfig: o.tls}
	var listener listeners.Listener = listeners.NewTCP(config)
	if o.websocket {
		listener = listeners.NewWebsocket(config)
	}
	for _, err := range []error{
		b.server.AddHook(&auth.Hook{}, &auth.Options{Ledger: ledger}),
		b.server.AddHook(&noQuota{}, nil),
		b.server.AddListener(listener),
		b.server.Serve(),
	} {
		if err != nil {
			b.t.Fatal(err)
		}
	}
	b.addr = listener.Address()
}

// noQuota lets the broker send without regard to a client's receive maximum: it miscounts, and stops for good after so many messages.
type noQuota struct{ mochi.HookBase }

func (*noQuota) Provides(b byte) bool { return b == mochi.OnConnect }

func (*noQuota) OnConnect(c *mochi.Client, _ packets.Packet) error {
	c.Properties.Props.ReceiveMaximum = 0
	c.State.Inflight.ResetSendQuota(0)
	return nil
}

// publish publishes as a client of version 5 would.
func (b *broker) publish(p packets.Packet) {
	b.t.Helper()
	p.FixedHeader.Type = packets.Publish
	if p.FixedHeader.Qos > 0 {
		p.PacketID = 1
	}
	inline, ok := b.server.Clients.Get(mochi.InlineClientId)
	if !ok {
		b.t.Fatal("the broker has no client of its own")
	}
	if err := b.server.InjectPacket(inline, p); err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) send(topic, payload string, qos byte) {
	b.t.Helper()
	b.publish(packets.Packet{FixedHeader: packets.FixedHeader{Qos: qos}, TopicName: topic, Payload: []byte(payload)})
}

// unacknowledged is how many messages the broker would send a client again.
func (b *broker) unacknowledged(clientID string) int {
	c, ok := b.server.Clients.Get(clientID)
	if !ok {
		return 0
	}
	return c.State.Inflight.Len()
}

func (b *broker) options(version int, qos byte) Options {
	return options("tcp://"+b.addr, version, qos)
}

func options(url string, version int, qos byte) Options {
	return Options{Instance: "test-0", pause: 50 * time.Millisecond, Source: plan.Source{
		Namespace: "ns", EventSource: "es", Event: "ev", Kind: "mqtt",
		MQTT: &plan.MQTT{URL: url, Topic: "t/#", Version: version, ClientID: "client", QOS: qos},
	}}
}

func start(t *testing.T, o Options, next event.Handler) *runtest.Running {
	t.Helper()
	return startLogged(t, o, next, zap.NewNop().Sugar())
}

func startLogged(t *testing.T, o Options, next event.Handler, log *zap.SugaredLogger) *runtest.Running {
	t.Helper()
	return runtest.Start(t, New(o), next, log)
}

// network makes connections that can be cut.
type network struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		n.mu.Lock()
		n.conns = append(n.conns, conn)
		n.mu.Unlock()
	}
	return conn, err
}

// cut ends all connections at once and tells how many were made so far.
func (n *network) cut() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		_ = c.Close()
	}
	return len(n.conns)
}
