package jetstream_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
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

func TestAccess(t *testing.T) {
	authority, stranger := servers.NewAuthority(t), servers.NewAuthority(t)
	secured := func(c servers.Certificate) *server.Options {
		return &server.Options{TLS: true, TLSTimeout: 10, TLSConfig: &tls.Config{Certificates: []tls.Certificate{c.Pair(t)}}}
	}
	mutual := secured(authority.Server())
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(authority.Cert))
	mutual.TLSConfig.ClientAuth, mutual.TLSConfig.ClientCAs, mutual.TLSVerify = tls.RequireAndVerifyClientCert, roots, true
	shown, forged := authority.Client("events"), stranger.Client("events")
	_, public, seed := newKey(t, nkeys.CreateUser)
	_, otherPublic, otherSeed := newKey(t, nkeys.CreateUser)
	_, _, accountSeed := newKey(t, nkeys.CreateAccount)
	withJWT, known, unknown := decentralized(t)
	type access = plan.NATSAccess
	user := server.Options{Username: "events", Password: "right-password"}

	for _, tt := range []struct {
		name   string
		server *server.Options
		scheme string
		wrong  access
		want   string
		right  access
	}{
		{"a wrong password", user.Clone(), "nats", access{Username: "events", Password: "hush"},
			`the server refuses the user "events" or the password (Authorization Violation): correct username and the value of passwordFrom`,
			access{Username: "events", Password: "right-password"}},
		{"no password", user.Clone(), "nats", access{},
			"the server refuses who comes without credentials (Authorization Violation): set usernameFrom and passwordFrom, tokenFrom, credentialsFrom or nkeySeedFrom",
			access{Username: "events", Password: "right-password"}},
		{"a wrong token", &server.Options{Authorization: "right-token"}, "nats", access{Token: "hush"},
			"the server refuses the token (Authorization Violation): correct the value of tokenFrom", access{Token: "right-token"}},
		{"an nkey that is not known", &server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}}, "nats", access{NKeySeed: otherSeed},
			"the server refuses the nkey " + otherPublic + " (Authorization Violation): add it to the server's users, or correct the value of nkeySeedFrom",
			access{NKeySeed: seed + "\n"}},
		{"the seed of an account", &server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}}, "nats", access{NKeySeed: accountSeed},
			"the value of nkeySeedFrom is not the seed of a user's nkey (nkeys: doesn't contain an user seed nkey): put one into the Secret, it begins with SU",
			access{NKeySeed: seed}},
		{"credentials of another account", withJWT, "nats", access{Credentials: unknown},
			"the server refuses the credentials file (Authorization Violation): correct the value of credentialsFrom", access{Credentials: known}},
		{"credentials without a JWT", withJWT.Clone(), "nats", access{Credentials: seed},
			"the value of credentialsFrom is not a credentials file, with a user's JWT and its nkey seed (it has no JWT)", access{Credentials: known}},
		{"an unknown authority", secured(authority.Server()), "tls", access{TLS: &plan.TLS{CACerts: stranger.Cert}},
			"the server's certificate was signed by an authority that is not trusted: correct tls.caCertFrom: no valid certificate of that authority is there",
			access{TLS: &plan.TLS{CACerts: authority.Cert}}},
		{"no authority", secured(authority.Server()), "nats", access{},
			"set tls.caCertFrom to the certificate of that authority", access{TLS: &plan.TLS{CACerts: authority.Cert}}},
		{"another name", secured(authority.ServerOf("nats.example.com")), "tls", access{TLS: &plan.TLS{CACerts: authority.Cert}},
			"the server's certificate is for another host (", access{TLS: &plan.TLS{CACerts: authority.Cert, ServerName: "nats.example.com"}}},
		{"no client certificate", mutual, "tls", access{TLS: &plan.TLS{CACerts: authority.Cert}},
			"the server wants a client certificate (tls: certificate required): set tls.clientCertFrom and tls.clientKeyFrom", access{TLS: &plan.TLS{CACerts: authority.Cert, Cert: shown.Cert, Key: shown.Key}}},
		{"a client certificate of somebody else", mutual.Clone(), "tls", access{TLS: &plan.TLS{CACerts: authority.Cert, Cert: forged.Cert, Key: forged.Key}},
			"the server refuses the client certificate (tls: unknown certificate authority): correct tls.clientCertFrom and tls.clientKeyFrom", access{TLS: &plan.TLS{CACerts: authority.Cert, Cert: shown.Cert, Key: shown.Key}}},
		{"TLS where there is none", &server.Options{}, "nats", access{TLS: &plan.TLS{CACerts: authority.Cert}}, "the server speaks no TLS: switch it on there, or remove tls", access{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := guarded(t, tt.server)
			host := s.Addr().String()
			core, logs := observer.New(zap.DebugLevel)
			connect := func(a access) *jetstream.Bus {
				ctx := logging.WithLogger(context.Background(), zap.New(core).Sugar())
				b := jetstream.New(ctx, jetstream.Options{Name: "EventBus a/b", Config: plan.JetStream{URL: tt.scheme + "://" + host, NATSAccess: a}})
				t.Cleanup(func() { _ = b.Close() })
				return b
			}
			b := connect(tt.wrong)
			var err error
			eventually(t, tt.want, func() bool {
				err = b.Ready()
				return err != nil && strings.Contains(err.Error(), tt.want)
			})
			time.Sleep(300 * time.Millisecond) // for more attempts, which say nothing
			if n := logs.Len(); n != 1 {
				t.Errorf("%d log lines, want 1: %v", n, logs.All())
			}
			said := err.Error() + logs.All()[0].Message + strings.Join(values(logs.All()[0].ContextMap()), " ")
			for _, secret := range []string{"hush", otherSeed, accountSeed, seed, unknown, forged.Key} {
				if strings.Contains(said, secret) {
					t.Errorf("a secret is told: %s", said)
				}
			}
			_ = b.Close()
			b = connect(tt.right)
			publish(t, b.Topic(bus.Topic{Name: "metrics"}), newEvent(t, "e", nil))
			if err := b.Ready(); err != nil {
				t.Errorf("corrected: Ready() = %v, want nil", err)
			}
		})
	}
}

func values(m map[string]any) []string {
	var list []string
	for _, v := range m {
		if s, ok := v.(string); ok {
			list = append(list, s)
		}
	}
	return list
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
