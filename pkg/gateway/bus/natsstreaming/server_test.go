package natsstreaming

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	stand "github.com/nats-io/nats-streaming-server/server"
	"github.com/nats-io/nats-streaming-server/stores"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/stan.go"
	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// broker is a server in this process. With a directory it keeps its data when it is stopped, otherwise it forgets it.
type broker struct {
	port    int
	dir     string
	payload int32
	// channels is the most that the server has; 0 is its default.
	channels int
	limits   stores.ChannelLimits // those that are not 0
	// authority makes it speak TLS only, and let in the users of the suite.
	authority *servers.Authority
	server    *stand.StanServer
}

func startBroker(t testing.TB, dir string) *broker {
	t.Helper()
	return launch(t, &broker{port: servers.FreePort(t), dir: dir, payload: 8 << 20})
}

func launch(t testing.TB, b *broker) *broker {
	t.Helper()
	b.start(t)
	t.Cleanup(func() { b.stop(t) })
	return b
}

func (b *broker) start(t testing.TB) {
	t.Helper()
	o := stand.GetDefaultOptions()
	o.ID = "stan"
	if b.dir != "" {
		o.StoreType, o.FilestoreDir = stores.TypeFile, b.dir
	}
	if b.channels > 0 {
		o.MaxChannels = b.channels
	}
	if b.limits.MaxMsgs > 0 {
		o.MaxMsgs = b.limits.MaxMsgs
	}
	if b.limits.MaxAge > 0 {
		o.MaxAge = b.limits.MaxAge
	}
	n := &natsd.Options{Host: "127.0.0.1", Port: b.port, MaxPayload: b.payload, NoLog: true, NoSigs: true}
	if b.authority != nil {
		b.secure(t, o, n)
	}
	var err error
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if b.server, err = stand.RunServerWithOpts(o, n); err == nil {
			return
		}
		if time.Now().After(deadline) { // until then the port may not be free again
			t.Fatal(err)
		}
	}
}

// secure has users that are as good as each other, one that may publish next to nothing, and one that is not told what was stored.
func (b *broker) secure(t testing.TB, o *stand.Options, n *natsd.Options) {
	t.Helper()
	o.Username, o.Password, o.Secure, o.ClientCA = "stan", "itself", true, filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(o.ClientCA, []byte(b.authority.Cert), 0o600); err != nil {
		t.Fatal(err)
	}
	n.TLS, n.TLSTimeout, n.TLSConfig = true, 10, &tls.Config{Certificates: []tls.Certificate{b.authority.Server().Pair(t)}}
	n.Users = []*natsd.User{
		{Username: "stan", Password: "itself"}, {Username: "events", Password: "right-s3cret"}, {Username: "other", Password: "other-s3cret"},
		{Username: "few", Password: "right-s3cret", Permissions: &natsd.Permissions{Publish: &natsd.SubjectPermission{Allow: []string{"openfunction.>"}}}},
		{Username: "deaf", Password: "right-s3cret", Permissions: &natsd.Permissions{Subscribe: &natsd.SubjectPermission{Allow: []string{"_INBOX.>"}}}},
	}
}

func (b *broker) stop(testing.TB) {
	if b.server != nil {
		b.server.Shutdown()
		b.server = nil
	}
}

func (b *broker) url() string { return "nats://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)) }

var instances atomic.Int64

func instance() string { return fmt.Sprintf("instance-%d", instances.Add(1)) }

func config(url string) plan.NATSStreaming {
	return plan.NATSStreaming{URL: url, ClusterID: "stan", Queue: true, Durable: "durable", AckWait: time.Second, StartAt: "new"}
}

// connect returns a bus that is closed at the end of the test.
func connect(t testing.TB, instance string, c plan.NATSStreaming) *Bus {
	t.Helper()
	ctx := logging.WithLogger(context.Background(), zap.NewNop().Sugar())
	b := New(ctx, Options{Name: "EventBus default/default", Config: c, Instance: instance})
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// client returns a connection of the plain library, as other programs have.
func client(t testing.TB, url string, options ...nats.Option) stan.Conn {
	t.Helper()
	var sc stan.Conn
	var err error
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		// The server within the server comes up a moment after its port does.
		sc, err = stan.Connect("stan", fmt.Sprintf("plain-%d", instances.Add(1)), stan.NatsURL(url), stan.NatsOptions(options...))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = sc.Close() })
	return sc
}

func publishRaw(t testing.TB, url, topic string, data []byte, options ...nats.Option) {
	t.Helper()
	if err := client(t, url, options...).Publish(topic, data); err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 90s", what)
		}
	}
}

func isReady(b bus.Bus) func() bool { return func() bool { return b.Ready() == nil } }
