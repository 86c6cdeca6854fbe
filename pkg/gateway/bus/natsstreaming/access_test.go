package natsstreaming

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	stand "github.com/nats-io/nats-streaming-server/server"
	"github.com/nats-io/nkeys"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// guarded starts a NATS server in this process that lets in whom o says, and a NATS Streaming server that is a client of it.
func guarded(t *testing.T, o *natsd.Options, authority *servers.Authority) *natsd.Server {
	t.Helper()
	o.Host, o.Port, o.NoLog, o.NoSigs = "127.0.0.1", natsd.RANDOM_PORT, true, true
	o.Users = append(o.Users, &natsd.User{Username: "stan", Password: "itself"})
	s, err := natsd.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server is not ready")
	}
	streaming := stand.GetDefaultOptions()
	streaming.ID, streaming.NATSServerURL = "stan", "nats://stan:itself@"+s.Addr().String()
	if o.TLSConfig != nil {
		streaming.Secure, streaming.ClientCA = true, filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(streaming.ClientCA, []byte(authority.Cert), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ss, err := stand.RunServerWithOpts(streaming, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ss.Shutdown)
	return s
}

func TestAccess(t *testing.T) {
	authority, stranger := servers.NewAuthority(t), servers.NewAuthority(t)
	secured := func() *natsd.Options {
		return &natsd.Options{TLS: true, TLSTimeout: 10, TLSConfig: &tls.Config{Certificates: []tls.Certificate{authority.Server().Pair(t)}},
			Users: []*natsd.User{{Username: "events", Password: "right"}}}
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := pair.PublicKey()
	seed, _ := pair.Seed()
	trusted := plan.NATSAccess{Username: "events", Password: "right", TLS: &plan.TLS{CACerts: authority.Cert}}
	few := &natsd.Permissions{Publish: &natsd.SubjectPermission{Allow: []string{"openfunction.>"}}}
	deaf := &natsd.Permissions{Subscribe: &natsd.SubjectPermission{Allow: []string{"_INBOX.>"}}}

	for _, tt := range []struct {
		name   string
		server *natsd.Options
		scheme string
		wrong  plan.NATSAccess
		want   string
		right  plan.NATSAccess
	}{
		{"a wrong password", &natsd.Options{Users: []*natsd.User{{Username: "events", Password: "right"}}}, "nats",
			plan.NATSAccess{Username: "events", Password: "hush"},
			`the server refuses the user "events" or the password (Authorization Violation): correct username and the value of passwordFrom`,
			plan.NATSAccess{Username: "events", Password: "right"}},
		{"a password where an nkey is wanted", &natsd.Options{Nkeys: []*natsd.NkeyUser{{Nkey: public}}}, "nats",
			plan.NATSAccess{Token: "hush"}, "the server refuses the token (Authorization Violation)", plan.NATSAccess{NKeySeed: string(seed)}},
		{"credentials that are none", &natsd.Options{Nkeys: []*natsd.NkeyUser{{Nkey: public}}}, "nats",
			plan.NATSAccess{Credentials: "hush"}, "the value of credentialsFrom is not a credentials file", plan.NATSAccess{NKeySeed: string(seed)}},
		{"an unknown authority", secured(), "tls", plan.NATSAccess{Username: "events", Password: "right", TLS: &plan.TLS{CACerts: stranger.Cert}},
			"the server's certificate was signed by an authority that is not trusted: correct tls.caCertFrom", trusted},
		{"no authority", secured(), "nats", plan.NATSAccess{Username: "events", Password: "right"}, "set tls.caCertFrom", trusted},
		{"permissions that are too few", &natsd.Options{Users: []*natsd.User{
			{Username: "few", Password: "right", Permissions: few}, {Username: "events", Password: "right"},
		}}, "nats", plan.NATSAccess{Username: "few", Password: "right"}, `"_STAN.discover.stan"): permit to publish`,
			plan.NATSAccess{Username: "events", Password: "right"}},
		{"no permission to receive acknowledgements", &natsd.Options{Users: []*natsd.User{
			{Username: "deaf", Password: "right", Permissions: deaf}, {Username: "events", Password: "right"},
		}}, "nats", plan.NATSAccess{Username: "deaf", Password: "right"}, `Permissions Violation for Subscription to "_STAN.acks.`,
			plan.NATSAccess{Username: "events", Password: "right"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := guarded(t, tt.server, authority)
			core, logs := observer.New(zap.WarnLevel)
			open := func(a plan.NATSAccess) *Bus {
				c := config(tt.scheme + "://" + s.Addr().String())
				c.NATSAccess = a
				b := New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), Options{Name: "EventBus a/b", Config: c, Instance: instance()})
				t.Cleanup(func() { _ = b.Close() })
				return b
			}
			b := open(tt.wrong)
			var err error
			eventually(t, tt.want, func() bool {
				err = b.Ready()
				return err != nil && strings.Contains(err.Error(), tt.want)
			})
			if !strings.HasPrefix(err.Error(), "EventBus a/b is unavailable: connect to "+tt.scheme+"://"+s.Addr().String()+": ") || strings.Contains(err.Error(), "hush") {
				t.Errorf("Ready() = %v, want the server and no secret", err)
			}
			_ = b.Close()
			if n := logs.Len(); n != 1 {
				t.Errorf("%d log lines, want 1: %v", n, logs.All())
			}
			b = open(tt.right)
			publish(t, b, "topic", "e1")
			if err := b.Ready(); err != nil {
				t.Errorf("corrected: Ready() = %v, want nil", err)
			}
		})
	}
}

// A server never answers what it does not permit. That is said, of that request only, and passes when it permits.
func TestWhatIsNotPermittedIsSaid(t *testing.T) {
	denied := &natsd.SubjectPermission{Deny: []string{"_STAN.pub.*.forbidden", "_STAN.sub.>"}}
	o := &natsd.Options{Users: []*natsd.User{{Username: "events", Password: "p", Permissions: &natsd.Permissions{Publish: denied}}}}
	s := guarded(t, o, nil)
	core, logs := observer.New(zap.InfoLevel)
	c := config("nats://" + s.Addr().String())
	c.NATSAccess = plan.NATSAccess{Username: "events", Password: "p"}
	b := New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), Options{Name: "EventBus a/b", Config: c, Instance: instance()})
	t.Cleanup(func() { _ = b.Close() })
	publish(t, b, "permitted", "e1")
	in := startSubscription(t, b, bus.Subscription{Name: "s", Topics: []string{"permitted"}})

	err := b.Topic(bus.Topic{Name: "forbidden"}).Handle(t.Context(), newEvent(t, "e2", "", nil))
	var away *event.Unavailable
	if want := `.forbidden"): permit to publish`; !errors.As(err, &away) || !strings.Contains(err.Error(), want) {
		t.Errorf("Handle = %v, want *event.Unavailable with %q", err, want)
	}
	eventually(t, "the subscription says what is not permitted", func() bool {
		err := in.ready()
		return err != nil && strings.Contains(err.Error(), `Publish to "_STAN.sub.`) && strings.Contains(err.Error(), "permit to publish")
	})
	publish(t, b, "permitted", "e3")
	if n := logs.FilterMessage("event bus connected").Len(); n != 1 {
		t.Errorf("connected %d times, want once: the rest goes on", n)
	}

	permitted := o.Clone()
	permitted.Users[0].Permissions = nil
	if err := s.ReloadOptions(permitted); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "forbidden", "e4")
	eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
	publish(t, b, "permitted", "e5")
	in.wants(t, "e5")
}
