package redis

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	miniserver "github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"

	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// TestProblems has servers refuse a source. Each answer says what to do.
func TestProblems(t *testing.T) {
	ours, other := servers.NewAuthority(t), servers.NewAuthority(t)
	secured := func(config *tls.Config, c servers.Certificate) func(*testing.T) *miniredis.Miniredis {
		return func(t *testing.T) *miniredis.Miniredis {
			m := miniredis.NewMiniRedis()
			config.Certificates = []tls.Certificate{c.Pair(t)}
			if err := m.StartTLS(config); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(m.Close)
			return m
		}
	}
	past := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ours.Cert))
	forged := other.Client("events")
	mutual := func() func(*testing.T) *miniredis.Miniredis {
		return secured(&tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}, ours.Server())
	}
	tests := []struct {
		name   string
		server func(*testing.T) *miniredis.Miniredis
		way    string
		plan   func(*plan.Redis)
		want   string
	}{{
		name: "a wrong password",
		server: func(t *testing.T) *miniredis.Miniredis {
			m := miniredis.RunT(t)
			m.RequireUserAuth("events", "right")
			return m
		},
		plan: func(p *plan.Redis) { p.Username, p.Password = "events", "wr0ng" },
		want: "the server refuses the user name or password (WRONGPASS): correct redisUsername and redisPasswordFrom",
	}, {
		name: "no password",
		server: func(t *testing.T) *miniredis.Miniredis {
			m := miniredis.RunT(t)
			m.RequireAuth("right")
			return m
		},
		want: "the server wants a password (NOAUTH): set redisPasswordFrom",
	}, {
		name: "a database that the server does not have",
		server: func(t *testing.T) *miniredis.Miniredis {
			m := miniredis.RunT(t)
			m.Server().SetPreHook(func(p *miniserver.Peer, command string, _ ...string) bool {
				if command != "SELECT" {
					return false
				}
				p.WriteError("ERR DB index is out of range")
				return true
			})
			return m
		},
		plan: func(p *plan.Redis) { p.DB = 99 },
		want: "the server has no database 99: set redisDB to one of its databases, of which 0 is the first",
	}, {
		name: "a stream that is a string",
		server: func(t *testing.T) *miniredis.Miniredis {
			m := miniredis.RunT(t)
			_ = m.Set("key", "x")
			return m
		},
		want: "the key key is not a stream (WRONGTYPE): set stream to another one",
	}, {
		name: "a list that is a string",
		server: func(t *testing.T) *miniredis.Miniredis {
			m := miniredis.RunT(t)
			_ = m.Set("key", "x")
			return m
		},
		way:  "list",
		want: "the key key is not a list (WRONGTYPE): set list to another one",
	}, {
		name:   "a certificate of a stranger",
		server: secured(&tls.Config{}, ours.Server()),
		plan:   func(p *plan.Redis) { p.TLS = &plan.TLS{CACerts: other.Cert} },
		want:   "the server's certificate was signed by an authority that is not trusted: correct tls.caCertFrom: no valid certificate of that authority is there",
	}, {
		name:   "a certificate of another host",
		server: secured(&tls.Config{}, ours.ServerOf("elsewhere")),
		plan:   func(p *plan.Redis) { p.TLS = &plan.TLS{CACerts: ours.Cert} },
		want:   "doesn't contain any IP SANs): correct redisHost, set tls.serverName, or give the server a certificate for this one",
	}, {
		name:   "a certificate that has expired",
		server: secured(&tls.Config{}, ours.ServerAt(past.Add(-time.Hour), past)),
		plan:   func(p *plan.Redis) { p.TLS = &plan.TLS{CACerts: ours.Cert} },
		want:   ": the server's certificate expired at 2020-02-03T04:05:06Z: renew it there",
	}, {
		name:   "a Sentinel's certificate that has expired",
		server: secured(&tls.Config{}, ours.ServerAt(past.Add(-time.Hour), past)),
		plan:   func(p *plan.Redis) { p.MasterName, p.TLS = "main", &plan.TLS{CACerts: ours.Cert} },
		want:   ": a Sentinel's certificate expired at 2020-02-03T04:05:06Z: renew it there",
	}, {
		name:   "no client certificate",
		server: mutual(),
		plan:   func(p *plan.Redis) { p.TLS = &plan.TLS{CACerts: ours.Cert} },
		want:   "the server wants a client certificate (tls: certificate required): set tls.clientCertFrom and tls.clientKeyFrom",
	}, {
		name:   "a client certificate of a stranger",
		server: mutual(),
		plan:   func(p *plan.Redis) { p.TLS = &plan.TLS{CACerts: ours.Cert, Cert: forged.Cert, Key: forged.Key} },
		want:   "the server refuses the client certificate (tls: unknown certificate authority): correct tls.clientCertFrom and tls.clientKeyFrom",
	}, {
		name:   "a server that wants TLS",
		server: secured(&tls.Config{}, ours.Server()),
		want:   "the server ends the connection without an answer: if it wants TLS, set enableTLS to true; if it is not a Redis server, correct redisHost",
	}, {
		name:   "a Sentinel that wants TLS",
		server: secured(&tls.Config{}, ours.Server()),
		plan:   func(p *plan.Redis) { p.MasterName = "main" },
		want:   ": a Sentinel ends the connection without an answer: if it wants TLS, set enableTLS to true; if it is not a Sentinel, correct redisHost",
	}, {
		name:   "a server that is no Sentinel",
		server: func(t *testing.T) *miniredis.Miniredis { return miniredis.RunT(t) },
		plan:   func(p *plan.Redis) { p.MasterName, p.Password = "main", "s3cret" },
		want:   "these are not Sentinels: name Sentinels in redisHost, or set failover to false",
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := tt.server(t)
			way := tt.way
			if way == "" {
				way = "stream"
			}
			o := options(way, "key", m.Addr())
			if tt.plan != nil {
				tt.plan(o.Source.Redis)
			}
			r := start(t, o, &runtest.Sink{})
			got := r.AwaitReady(false).Error()
			if !strings.HasPrefix(got, "redis ") || !strings.Contains(got, m.Addr()) || !strings.Contains(got, tt.want) {
				t.Errorf("ready(%q), want %q of %s in it", got, tt.want, m.Addr())
			}
			for _, secret := range []string{"wr0ng", "s3cret"} {
				if strings.Contains(got, secret) {
					t.Errorf("ready(%q) holds a password", got)
				}
			}
		})
	}
}

// Sentinels that are away are said in one line, with all of them in it: /readyz has a line for each event.
func TestSentinelsThatAreAwayAreNamed(t *testing.T) {
	o := options("stream", "key", servers.FreeAddress(t), servers.FreeAddress(t))
	o.Source.Redis.MasterName = "main"
	got := start(t, o, &runtest.Sink{}).AwaitReady(false).Error()
	want := "redis main of the Sentinels " + strings.Join(o.Source.Redis.Addresses, ",") + ": dial tcp "
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, ": connect: connection refused: start the Sentinels, or correct redisHost") {
		t.Errorf("ready(%q), want the cause after %q and then what to do", got, want)
	}
	_, causes, _ := strings.Cut(got, ": ")
	for _, address := range o.Source.Redis.Addresses {
		if !strings.Contains(causes, "dial tcp "+address+": ") {
			t.Errorf("ready(%q), want the cause at %s in it", got, address)
		}
	}
	if strings.Count(got, "; ") != 1 || strings.Contains(got, "\n") {
		t.Errorf("ready(%q), want two causes in one line", got)
	}
}

func TestCertificatesOfThePlanAreUsed(t *testing.T) {
	ours := servers.NewAuthority(t)
	m := miniredis.NewMiniRedis()
	if err := m.StartTLS(&tls.Config{Certificates: []tls.Certificate{ours.ServerOf("redis.example").Pair(t)}}); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	o := options("stream", "key", m.Addr())
	o.Source.Redis.TLS = &plan.TLS{CACerts: ours.Cert, ServerName: "redis.example"}
	start(t, o, &runtest.Sink{}).AwaitReady(true)

	o.Source.Redis.TLS = &plan.TLS{CACerts: "no PEM"}
	err := New(o).Run(t.Context(), &runtest.Sink{}, func(error) {})
	if want := "redis " + m.Addr() + ": tls: the CA certificates hold no PEM certificate"; err == nil || err.Error() != want {
		t.Errorf("Run() = %v, want %s", err, want)
	}
}

func TestTheClientHasThePlansOptions(t *testing.T) {
	o := options("stream", "key", "127.0.0.1:1")
	p := o.Source.Redis
	p.DB, p.MaxRetries, p.MinRetryInterval, p.MaxRetryInterval = 3, -1, -time.Second, 2*time.Second
	p.DialTimeout, p.ReadTimeout, p.WriteTimeout = time.Second, -time.Hour, 4*time.Second
	p.PoolSize, p.PoolTimeout, p.MinIdleConns = 7, 5*time.Second, 2
	p.MaxConnAge, p.IdleTimeout = time.Minute, -1
	d, err := newDialer(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := New(o).client(d).(*redis.Client)
	defer c.Close()
	got := c.Options()
	for name, pair := range map[string][2]any{
		"DB":           {got.DB, 3},
		"MaxRetries":   {got.MaxRetries, 0}, // the client's own way to say none
		"min interval": {got.MinRetryBackoff, time.Duration(0)},
		"max interval": {got.MaxRetryBackoff, 2 * time.Second},
		"dial":         {got.DialTimeout, time.Second},
		"read":         {got.ReadTimeout, time.Duration(0)},
		"write":        {got.WriteTimeout, 4 * time.Second},
		"pool":         {got.PoolSize, 8},
		"pool timeout": {got.PoolTimeout, 5 * time.Second},
		"idle":         {got.MinIdleConns, 2},
		"age":          {got.ConnMaxLifetime, time.Minute},
		"idle timeout": {got.ConnMaxIdleTime, time.Duration(-1)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %v, want %v", name, pair[0], pair[1])
		}
	}
}

// A cluster of one node does not know its own address: it names an empty host, which means the one that was asked.
func TestAClusterThatDoesNotKnowItsAddressIsFound(t *testing.T) {
	ours := servers.NewAuthority(t)
	for name, tt := range map[string]struct {
		start func(*miniredis.Miniredis) error
		tls   *plan.TLS
	}{
		"at another address": {start: func(m *miniredis.Miniredis) error {
			return m.StartAddr(net.JoinHostPort("127.0.0.2", strconv.Itoa(servers.FreePort(t))))
		}},
		"with TLS": {
			start: func(m *miniredis.Miniredis) error {
				return m.StartTLS(&tls.Config{Certificates: []tls.Certificate{ours.Server().Pair(t)}})
			},
			tls: &plan.TLS{CACerts: ours.Cert},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := miniredis.NewMiniRedis()
			if err := tt.start(m); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(m.Close)
			m.Server().SetPreHook(func(p *miniserver.Peer, command string, args ...string) bool {
				if command != "CLUSTER" || !strings.EqualFold(args[0], "SLOTS") {
					return false
				}
				port, _ := strconv.Atoi(m.Port())
				p.WriteLen(1)
				p.WriteLen(3)
				p.WriteInt(0)
				p.WriteInt(16383)
				p.WriteLen(3)
				p.WriteBulk("")
				p.WriteInt(port)
				p.WriteBulk("id")
				return true
			})
			o := options("list", "orders", servers.FreeAddress(t), m.Addr()) // nobody is at the first
			o.Source.Redis.Cluster, o.Source.Redis.TLS = true, tt.tls
			taken := &runtest.Sink{}
			start(t, o, taken).AwaitReady(true)
			if _, err := m.Push("orders", "x"); err != nil {
				t.Fatal(err)
			}
			runtest.Eventually(t, "an event", func() bool { return taken.Count("x") == 1 })
		})
	}
}
