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
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
	"github.com/openfunction/events/pkg/plan"
)

// broker is a server in this process that can be stopped and started with its data. It is a nats.InProcessConnProvider.
type broker struct {
	dir  string
	port int // 0: in process only
	s    atomic.Pointer[embedded.Server]
}

func newBroker(t testing.TB, tcp bool) *broker {
	b := &broker{dir: t.TempDir()}
	if tcp {
		b.port = -1
	}
	b.start(t)
	t.Cleanup(func() { b.s.Load().Close() })
	return b
}

func (b *broker) start(t testing.TB) {
	o := embedded.Options{Dir: b.dir, SyncInterval: time.Second}
	if b.port != 0 {
		o.Host, o.Port = "127.0.0.1", max(0, b.port)
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
	} else {
		o.Config.URL = b.s.Load().ClientURL()
	}
	return o
}

func (b *broker) connect(t testing.TB) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(b))
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
	bustest.Run(t, fixture(newBroker(t, true)))
}
