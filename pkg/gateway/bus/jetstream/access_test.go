package jetstream_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// guarded starts a server in this process that lets in whom o says.
func guarded(t *testing.T, o *server.Options) *server.Server {
	t.Helper()
	o.Host, o.JetStream, o.StoreDir, o.NoLog, o.NoSigs = "127.0.0.1", true, t.TempDir(), true, true
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return s
}

// newKey returns a new nkey of the kind that create makes, with its public key and its seed.
func newKey(t *testing.T, create func() (nkeys.KeyPair, error)) (pair nkeys.KeyPair, public, seed string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, _ = pair.PublicKey()
	s, _ := pair.Seed()
	return pair, public, string(s)
}

// decentralized returns options of a server that lets in who has a JWT of its one account, and two credentials files: one for it, and
// one of an account that it does not know.
func decentralized(t *testing.T) (o *server.Options, known, unknown string) {
	t.Helper()
	operator, operatorID, _ := newKey(t, nkeys.CreateOperator)
	claims := jwt.NewOperatorClaims(operatorID)
	accounts := &server.MemAccResolver{}
	o = &server.Options{TrustedOperators: []*jwt.OperatorClaims{claims}, AccountResolver: accounts}
	add := func(known bool, limits jwt.JetStreamLimits) (account nkeys.KeyPair, id string) {
		account, id, _ = newKey(t, nkeys.CreateAccount)
		c := jwt.NewAccountClaims(id)
		c.Limits.JetStreamLimits = limits
		token, err := c.Encode(operator)
		if err != nil {
			t.Fatal(err)
		}
		if known {
			if err := accounts.Store(id, token); err != nil {
				t.Fatal(err)
			}
		}
		return account, id
	}
	_, o.SystemAccount = add(true, jwt.JetStreamLimits{}) // which may have no JetStream
	var files [2]string
	for i := range files {
		account, _ := add(i == 0, jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1})
		_, userID, seed := newKey(t, nkeys.CreateUser)
		token, err := jwt.NewUserClaims(userID).Encode(account)
		if err != nil {
			t.Fatal(err)
		}
		file, err := jwt.FormatUserConfig(token, []byte(seed))
		if err != nil {
			t.Fatal(err)
		}
		files[i] = string(file)
	}
	return o, files[0], files[1]
}

// TestAccess asks of servers that let in by other means what the suite asks of one with users and TLS.
func TestAccess(t *testing.T) {
	authority, stranger := servers.NewAuthority(t), servers.NewAuthority(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(authority.Cert))
	mutual := &server.Options{TLS: true, TLSVerify: true, TLSTimeout: 10, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{authority.Server().Pair(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
	}}
	shown, forged := authority.Client("events"), stranger.Client("events")
	_, public, seed := newKey(t, nkeys.CreateUser)
	_, secondPublic, secondSeed := newKey(t, nkeys.CreateUser)
	_, otherPublic, otherSeed := newKey(t, nkeys.CreateUser)
	withJWT, known, unknown := decentralized(t)
	type access = plan.NATSAccess
	type refusal struct {
		name, secret string
		access       access
		want         string
	}
	for _, tt := range []struct {
		name     string
		server   *server.Options
		right    access
		other    *access
		refusals []refusal
	}{
		{"a token", &server.Options{Authorization: "right-token"}, access{Token: "right-token"}, nil, []refusal{
			{"another token", "hush", access{Token: "hush"}, "the server refuses the token (Authorization Violation): correct the value of tokenFrom"},
		}},
		{"an nkey", &server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}, {Nkey: secondPublic}}}, access{NKeySeed: seed + "\n"}, &access{NKeySeed: secondSeed}, []refusal{
			{"another nkey", otherSeed, access{NKeySeed: otherSeed},
				"the server refuses the nkey " + otherPublic + " (Authorization Violation): add it to the server's users, or correct the value of nkeySeedFrom"},
		}},
		{"a credentials file", withJWT, access{Credentials: known}, nil, []refusal{
			{"one of another account", unknown, access{Credentials: unknown},
				"the server refuses the credentials file (Authorization Violation): correct the value of credentialsFrom"},
		}},
		{"a client certificate", mutual, access{TLS: &plan.TLS{CACerts: authority.Cert, Cert: shown.Cert, Key: shown.Key}}, nil, []refusal{
			{"none", "", access{TLS: &plan.TLS{CACerts: authority.Cert}}, "the server wants a client certificate ("},
			{"one of somebody else", forged.Key, access{TLS: &plan.TLS{CACerts: authority.Cert, Cert: forged.Cert, Key: forged.Key}},
				"the server refuses the client certificate ("},
		}},
		{"anybody without TLS", &server.Options{}, access{}, nil, []refusal{
			{"TLS", "", access{TLS: &plan.TLS{CACerts: authority.Cert}}, "the server speaks no TLS: "},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := "nats://" + guarded(t, tt.server).Addr().String()
			const ackWait = 500 * time.Millisecond
			connect := func(ctx context.Context, a access) bus.Bus {
				return jetstream.New(ctx, jetstream.Options{Name: "EventBus a/b", Config: plan.JetStream{URL: url, AckWait: ackWait, NATSAccess: a}})
			}
			f := bustest.Fixture{New: func(testing.TB) bus.Bus { return connect(context.Background(), tt.right) }, AckWait: ackWait}
			if tt.other != nil {
				f.Other = func(testing.TB) bus.Bus { return connect(context.Background(), *tt.other) }
			}
			for _, r := range tt.refusals {
				f.Refusals = append(f.Refusals, bustest.Refusal{
					Name: r.name, Secret: r.secret, Want: []string{"nats 127.0.0.1:", r.want},
					New: func(ctx context.Context, _ testing.TB) bus.Bus { return connect(ctx, r.access) },
				})
			}
			bustest.RunAccess(t, f)
		})
	}
}

// A person who corrects the server need not do anything to the bus.
func TestPasswordIsCorrectedAtTheServer(t *testing.T) {
	o := &server.Options{Username: "events", Password: "old"}
	s := guarded(t, o)
	connect := func(password string) *jetstream.Bus {
		return open(t, jetstream.Options{Name: "EventBus a/b", Config: plan.JetStream{
			URL: s.ClientURL(), NATSAccess: plan.NATSAccess{Username: "events", Password: password},
		}})
	}
	before, after := connect("old"), connect("new")
	refused := func(b *jetstream.Bus) func() bool {
		return func() bool {
			err := b.Ready()
			return err != nil && strings.Contains(err.Error(), "EventBus a/b is unavailable: nats "+s.Addr().String()+`: the server refuses the user "events"`)
		}
	}
	eventually(t, "the new password is refused", refused(after))
	publish(t, before.Topic(bus.Topic{Name: "metrics"}), newEvent(t, "e1", nil))
	changed := o.Clone()
	changed.Password = "new"
	if err := s.ReloadOptions(changed); err != nil {
		t.Fatal(err)
	}
	publish(t, after.Topic(bus.Topic{Name: "metrics"}), newEvent(t, "e2", nil))
	eventually(t, "the old password is refused", refused(before))
}

func TestPermissionsThatAreTooFew(t *testing.T) {
	few := &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"openfunction.>"}}}
	s := guarded(t, &server.Options{Users: []*server.User{{Username: "events", Password: "p", Permissions: few}}})
	b := open(t, jetstream.Options{Name: "EventBus a/b", Config: plan.JetStream{
		URL: s.ClientURL(), NATSAccess: plan.NATSAccess{Username: "events", Password: "p"},
	}})
	eventually(t, "an error that names the subject and the cure", func() bool {
		err := b.Ready()
		return err != nil && strings.Contains(err.Error(), `"$JS.API.STREAM.INFO.openfunction-events"): permit to publish`)
	})
}

// A server never answers what it does not permit. That is said at once, of that topic only, and passes when it permits.
func TestATopicThatIsNotPermittedSaysSo(t *testing.T) {
	allowed := &server.SubjectPermission{Allow: []string{"$JS.>", "openfunction.ns.es.permitted"}, Deny: []string{"$JS.API.STREAM.CREATE.openfunction-topic-forbidden"}}
	o := &server.Options{Users: []*server.User{{Username: "events", Password: "p", Permissions: &server.Permissions{Publish: allowed}}}}
	s := guarded(t, o)
	b := open(t, jetstream.Options{Name: "EventBus a/b", Config: plan.JetStream{
		URL: s.ClientURL(), NATSAccess: plan.NATSAccess{Username: "events", Password: "p"},
	}})
	topic := func(name string) event.Handler { return b.Topic(bus.Topic{Name: name}) }
	publish(t, topic("openfunction.ns.es.permitted"), newEvent(t, "e", nil))
	for name, subject := range map[string]string{
		"openfunction.ns.es.forbidden": "openfunction.ns.es.forbidden", "forbidden": "$JS.API.STREAM.CREATE.openfunction-topic-forbidden",
	} {
		for range 2 {
			err := topic(name).Handle(t.Context(), newEvent(t, "e", nil))
			var away *event.Unavailable
			if want := `"` + subject + `"): permit to publish`; !errors.As(err, &away) || !strings.Contains(err.Error(), want) {
				t.Errorf("Handle on %s = %v, want *event.Unavailable with %q", name, err, want)
			}
		}
	}
	publish(t, topic("openfunction.ns.es.permitted"), newEvent(t, "e2", nil))
	changed := o.Clone()
	changed.Users = []*server.User{{Username: "events", Password: "p"}}
	if err := s.ReloadOptions(changed); err != nil {
		t.Fatal(err)
	}
	publish(t, topic("openfunction.ns.es.forbidden"), newEvent(t, "e", nil))
	publish(t, topic("forbidden"), newEvent(t, "e", nil))
}

// The library leaves the connection of an attempt that is refused to the garbage collector.
func TestAttemptsLeaveNoConnections(t *testing.T) {
	s := guarded(t, &server.Options{Username: "events", Password: "p"})
	var dialed, left atomic.Int64
	b := open(t, jetstream.Options{
		Name: "EventBus a/b", Config: plan.JetStream{URL: s.ClientURL(), NATSAccess: plan.NATSAccess{Username: "events", Password: "wrong"}},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			dialed.Add(1)
			left.Add(1)
			return &closer{Conn: c, closed: sync.OnceFunc(func() { left.Add(-1) })}, nil
		},
	})
	eventually(t, "many attempts", func() bool { return dialed.Load() > 8 })
	_ = b.Close()
	if n := left.Load(); n > 0 {
		t.Errorf("%d of %d connections are open", n, dialed.Load())
	}
}

type closer struct {
	net.Conn
	closed func()
}

func (c *closer) Close() error {
	c.closed()
	return c.Conn.Close()
}
