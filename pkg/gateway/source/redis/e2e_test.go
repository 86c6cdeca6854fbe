//go:build e2e

package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/pkg/gateway/source/sourcetest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// outageTime is how long the server is away in one case of each way, and of a cluster.
const outageTime = 20 * time.Second

func TestE2EConformance(t *testing.T) {
	const user = "user events on >s3cret +@all ~* &*"
	ours := servers.NewAuthority(t)
	open := func(t *testing.T) *servers.RedisServer { return servers.Redis(t, "requirepass s3cret") }
	for name, tt := range map[string]struct {
		way   string
		start func(*testing.T) *servers.RedisServer
		base  plan.Redis
		away  time.Duration // or, if zero, until the source has noticed
	}{
		"stream":  {"stream", open, plan.Redis{}, outageTime},
		"list":    {"list", open, plan.Redis{}, outageTime},
		"channel": {"channel", open, plan.Redis{}, outageTime},
		"pattern": {"pattern", open, plan.Redis{}, outageTime},
		"list of a user, with TLS": {
			"list", func(t *testing.T) *servers.RedisServer { return servers.RedisTLS(t, ours, "tls-auth-clients no", user) },
			plan.Redis{Username: "events", TLS: &plan.TLS{CACerts: ours.Cert}}, 0,
		},
		"stream of a user of a cluster, with TLS": {
			"stream", func(t *testing.T) *servers.RedisServer {
				return servers.RedisClusterTLS(t, ours, "tls-auth-clients no", user)
			},
			plan.Redis{Username: "events", TLS: &plan.TLS{CACerts: ours.Cert}, Cluster: true}, outageTime,
		},
		"list of a user of a cluster": {
			"list", func(t *testing.T) *servers.RedisServer { return servers.RedisCluster(t, user) },
			plan.Redis{Username: "events", Cluster: true}, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tt.start(t)
			base := tt.base
			base.Addresses, base.Password = []string{s.Addr()}, "s3cret"
			base.RedeliverInterval, base.ProcessingTimeout = 500*time.Millisecond, 5*time.Second
			f := fixture(tt.way, s.ClientOf(base.Username, base.Password), base)
			f.Stop, f.Start = func(testing.TB) { s.Kill() }, func(testing.TB) { s.Start() }
			f.Outage, f.Company = tt.away, true
			sourcetest.Run(t, f)
		})
	}
}

func TestE2ERedis(t *testing.T) {
	s := servers.Redis(t)
	for name, test := range map[string]func(*testing.T, *servers.RedisServer){
		"a process that is killed loses nothing":                        func(t *testing.T, s *servers.RedisServer) { processKilled(t, s, plan.Redis{}) },
		"a password that is changed under load loses nothing":           func(t *testing.T, s *servers.RedisServer) { rotation(t, s, plan.Redis{}) },
		"a right that is missing is named once, until it is granted":    rights,
		"the rights that the documentation names are enough":            documentedRights,
		"an entry that takes long is not taken over":                    func(t *testing.T, s *servers.RedisServer) { slow(t, "stream", s) },
		"an element that takes long is not taken over":                  func(t *testing.T, s *servers.RedisServer) { slow(t, "list", s) },
		"the names of consumers that are gone do not pile up":           namesGo,
		"what was deleted before it was taken over holds up nothing":    deletedEarly,
		"a group and a stream that go away are created where they were": func(t *testing.T, s *servers.RedisServer) { groupGoes(t, s.Client(), s.Addr()) },
		"a source that ends leaves its entries to others at once":       leaves,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

// produce writes n values, named after the key, about a thousand in a second.
func produce(t *testing.T, c redis.UniversalClient, way, key string, n int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := range n {
		if i%10 == 0 {
			<-tick.C
		}
		if err := push(c, way, key, fmt.Sprint(key, i)); err != nil {
			t.Fatalf("produce to %s: %v", key, err)
		}
	}
}

func processKilled(t *testing.T, s *servers.RedisServer, base plan.Redis) {
	for _, way := range []string{"stream", "list"} {
		t.Run(way, func(t *testing.T) {
			const n = 1000
			key, taken := "killed-"+way, t.TempDir()+"/taken"
			c := s.Client()
			o := options(way, key, s.Addr())
			o.Source.Redis.Cluster = base.Cluster
			startSource(t, o, taken).Kill() // without one event
			p := startSource(t, o, taken)
			var producer sync.WaitGroup
			producer.Go(func() { produce(t, c, way, key, n) })
			runtest.Eventually(t, "some events", func() bool { return len(runtest.Lines(taken)) > 100 })
			p.Kill()
			producer.Wait()
			before := runtest.Lines(taken)

			after := &runtest.Sink{}
			o.Instance = "another"
			start(t, o, after)
			runtest.Eventually(t, "every event", func() bool { return runtest.Distinct(before, after.Data()) == n })
			t.Logf("lost 0 of %d; %d of them came twice", n, len(before)+after.Distinct()-n)
		})
	}
}

// startSource runs a source in a process of its own, which appends what it takes to a file. It returns once the source is ready.
func startSource(t *testing.T, o Options, file string) *servers.Process {
	t.Helper()
	cmd, ready := runtest.Process(t, o.Source, file)
	return servers.StartProcess(t, cmd, ready)
}

// TestSourceProcess is what startSource runs; by itself it does nothing.
func TestSourceProcess(t *testing.T) {
	runtest.SourceProcess(t, func(s plan.Source) source.Source { return New(Options{Instance: "test-0", Source: s}) })
}

// rotations is how often a credential changes under load.
const rotations = 3

// credential has numbers, from 0 on.
type credential struct {
	show func(p *plan.Redis, n int)
	// change has the server take only the n-th, and ends the connections that were made with another.
	change  func(n int)
	refused string
}

func rotation(t *testing.T, s *servers.RedisServer, base plan.Redis) {
	for _, way := range []string{"stream", "list"} {
		t.Run(way, func(t *testing.T) {
			user := "rotation-" + way
			secret := func(n int) string { return fmt.Sprint("secret-", n) }
			s.Do("ACL", "SETUSER", user, "on", ">"+secret(0), "+@all", "~*")
			rotates(t, s, way, credential{
				show: func(p *plan.Redis, n int) { p.Cluster, p.Username, p.Password = base.Cluster, user, secret(n) },
				change: func(n int) {
					s.Do("ACL", "SETUSER", user, "resetpass", ">"+secret(n))
					s.Do("CLIENT", "KILL", "USER", user)
				},
				refused: "(WRONGPASS): correct redisUsername and redisPasswordFrom",
			})
		})
	}
}

// TestE2ECertificateRotation has clients show a certificate of another authority. The test itself shows none.
func TestE2ECertificateRotation(t *testing.T) {
	for _, way := range []string{"stream", "list"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			var authorities []*servers.Authority
			var shown []servers.Certificate
			for range rotations + 1 {
				a := servers.NewAuthority(t)
				authorities, shown = append(authorities, a), append(shown, a.Client("events"))
			}
			ours := authorities[0].Cert
			s := servers.RedisTLS(t, authorities[0], "tls-auth-clients optional")
			rotates(t, s, way, credential{
				show: func(p *plan.Redis, n int) { p.TLS = &plan.TLS{CACerts: ours, Cert: shown[n].Cert, Key: shown[n].Key} },
				change: func(n int) {
					s.SetClients(authorities[n].Cert)
					s.Do("CLIENT", "KILL", "TYPE", "normal")
				},
				refused: "the server refuses the client certificate (",
			})
		})
	}
}

// rotates changes a credential as one does, while 1,000 values a second are written: on the server, then in the plan, which stops a source and
// starts another.
func rotates(t *testing.T, s *servers.RedisServer, way string, c credential) {
	key := "rotated-" + way
	o := options(way, key, s.Addr())
	c.show(o.Source.Redis, 0)
	taken := &runtest.Sink{}
	r := start(t, o, taken)
	r.AwaitReady(true)
	load := sourcetest.StartLoad(t, burst(t, s.Client(), way, key))
	for i := 1; i <= rotations; i++ {
		before := taken.Distinct()
		runtest.Eventually(t, "some events", func() bool { return taken.Distinct() > before+500 })
		load.Mark()
		c.change(i)
		for !strings.Contains(r.AwaitReady(false).Error(), c.refused) { // first, perhaps, that its connection ended
		}
		r.End()
		changed := *o.Source.Redis
		c.show(&changed, i)
		o.Source.Redis = &changed
		r = start(t, o, taken)
		r.AwaitReady(true)
		load.Mark()
	}
	n := load.Stop()
	for got := taken.Distinct(); got < n; got = taken.Distinct() { // however long that takes
		runtest.Eventually(t, fmt.Sprintf("more than %d of %d events", got, n), func() bool { return taken.Distinct() > got })
	}
	for _, data := range taken.Data() {
		if i, err := strconv.Atoi(data); err != nil || i < 0 || i >= n {
			t.Errorf("%q was taken, of %d numbers that were written", data, n)
		}
	}
	t.Logf("lost 0 of %d, repeated %d, %d changes", n, len(taken.Data())-n, rotations)
}

// burst writes numbers at once.
func burst(t *testing.T, c redis.UniversalClient, way, key string) func(from, to int) {
	return func(from, to int) {
		_, err := c.Pipelined(context.Background(), func(p redis.Pipeliner) error {
			for i := from; i < to; i++ {
				switch way {
				case "stream":
					p.XAdd(context.Background(), &redis.XAddArgs{Stream: key, Values: []any{"data", i}})
				case "list":
					p.RPush(context.Background(), key, i)
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("write to %s: %v", key, err)
		}
	}
}

func rights(t *testing.T, s *servers.RedisServer) {
	const user = "restricted"
	for way, missing := range map[string][]string{"stream": {"xreadgroup", "xack", "xautoclaim"}, "list": {"blmove", "lrem"}, "channel": {"subscribe"}} {
		for _, command := range missing {
			t.Run(command, func(t *testing.T) {
				s.Do("ACL", "SETUSER", user+command, "on", ">pw", "+@all", "-"+command, "~*", "&*")
				key := "rights-" + command
				o := options(way, key, s.Addr())
				o.Source.Redis.Username, o.Source.Redis.Password = user+command, "pw"
				taken := &runtest.Sink{}
				r := start(t, o, taken)
				c := s.Client()
				if way != "channel" {
					runtest.Eventually(t, "the group", func() bool { return len(r.Ready) > 0 })
					if err := push(c, way, key, "x"); err != nil {
						t.Fatal(err)
					}
				}
				err := r.AwaitReady(false).Error()
				for _, want := range []string{s.Addr(), command, "(NOPERM): grant it with ACL SETUSER"} {
					if !strings.Contains(err, want) {
						t.Errorf("ready(%q), want %q in it", err, want)
					}
				}
				time.Sleep(time.Second) // a few attempts more, which are not said
				if n := len(r.Ready); n != 0 {
					t.Errorf("ready was called %d times more, the first with %v", n, <-r.Ready)
				}
				s.Do("ACL", "SETUSER", user+command, "+"+command)
				r.AwaitReady(true)
				if err := push(c, way, key, "y"); err != nil {
					t.Fatal(err)
				}
				runtest.Eventually(t, "an event", func() bool { return taken.Count("y") == 1 })
			})
		}
	}
}

// documentedRights has a user with the commands of docs/spec/eventsource.md and no others. Nothing is refused, from beginning to end.
func documentedRights(t *testing.T, s *servers.RedisServer) {
	docs, err := os.ReadFile("../../../../docs/spec/eventsource.md")
	if err != nil {
		t.Fatal(err)
	}
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			row := regexp.MustCompile("(?m)^\\| .*`" + way + "`.* \\| (`[a-z]+`.*) \\|$").FindSubmatch(docs)
			if row == nil {
				t.Fatal("the documentation has no row with the commands")
			}
			user, key := "least-"+way, "least-"+way
			rule := []any{"ACL", "SETUSER", user, "on", ">pw", "resetchannels", "~" + key, "~{" + key + "}:*", "&" + key}
			if way == "pattern" {
				rule = append(rule, "&"+key+"*")
			}
			for _, command := range regexp.MustCompile("`([a-z]+)`").FindAllSubmatch(row[1], -1) {
				rule = append(rule, "+"+string(command[1]))
			}
			s.Do(rule...)
			o := options(way, key, s.Addr())
			o.Source.Redis.Username, o.Source.Redis.Password = user, "pw"
			core, logs := observer.New(zap.DebugLevel)
			taken := &runtest.Sink{}
			r := startLogged(t, o, taken, zap.New(core).Sugar())
			r.AwaitReady(true)
			if err := push(s.Client(), way, key, "x"); err != nil {
				t.Fatal(err)
			}
			runtest.Eventually(t, "an event", func() bool { return taken.Count("x") == 1 })
			time.Sleep(4 * o.Source.Redis.RedeliverInterval) // for what is done from time to time
			r.End()
			for _, e := range logs.All() {
				t.Errorf("%s %v", e.Message, e.ContextMap())
			}
		})
	}
}

// slow runs two sources, of which the first one's handler takes very long.
func slow(t *testing.T, way string, s *servers.RedisServer) {
	const timeout = 5 * time.Second
	key := "slow-" + way
	o := options(way, key, s.Addr())
	o.Source.Redis.ProcessingTimeout = timeout
	began, release := make(chan struct{}, 100), make(chan struct{})
	a, b := &runtest.Sink{Refuse: func(string) error { began <- struct{}{}; <-release; return nil }}, &runtest.Sink{}
	start(t, o, a).AwaitReady(true)
	c := s.Client()
	for i := range 10 {
		if err := push(c, way, key, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		<-began
	}
	o.Instance = "another"
	start(t, o, b).AwaitReady(true)
	time.Sleep(3 * timeout)
	close(release)
	runtest.Eventually(t, "every event", func() bool { return a.Distinct() == 10 })
	if stolen := b.Distinct(); stolen > 0 {
		t.Errorf("%d events came to another process while they were handled", stolen)
	}
}

func namesGo(t *testing.T, s *servers.RedisServer) {
	const key = "names"
	c := s.Client()
	if err := c.XGroupCreateMkStream(t.Context(), key, "group", "$").Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.XGroupCreateConsumer(t.Context(), key, "group", "a pod of long ago").Err(); err != nil {
		t.Fatal(err)
	}
	o := options("stream", key, s.Addr())
	o.Source.Redis.ProcessingTimeout = time.Second
	taken := &runtest.Sink{}
	start(t, o, taken).AwaitReady(true)
	runtest.Eventually(t, "the consumer that is gone is forgotten", func() bool {
		consumers, err := c.XInfoConsumers(t.Context(), key, "group").Result()
		return err == nil && !slices.ContainsFunc(consumers, func(c redis.XInfoConsumer) bool { return c.Name == "a pod of long ago" })
	})
	if err := push(c, "stream", key, "x"); err != nil { // the one that lives may have been forgotten too, which means nothing
		t.Fatal(err)
	}
	runtest.Eventually(t, "an event", func() bool { return taken.Count("x") == 1 })
}

func deletedEarly(t *testing.T, s *servers.RedisServer) {
	const key = "deleted"
	c, ctx := s.Client(), t.Context()
	if err := c.XGroupCreateMkStream(ctx, key, "group", "$").Err(); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"gone", "stays"} {
		if err := push(c, "stream", key, value); err != nil {
			t.Fatal(err)
		}
	}
	read, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "group", Consumer: "dead", Streams: []string{key, ">"}}).Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.XDel(ctx, key, read[0].Messages[0].ID).Err(); err != nil {
		t.Fatal(err)
	}
	taken := &runtest.Sink{}
	start(t, options("stream", key, s.Addr()), taken)
	runtest.Eventually(t, "the entry that stays", func() bool { return taken.Count("stays") == 1 })
	runtest.Eventually(t, "nothing is pending", func() bool { return c.XPending(ctx, key, "group").Val().Count == 0 })
}

// leaves has a source end that holds entries, with a processing timeout that the test does not wait for.
func leaves(t *testing.T, s *servers.RedisServer) {
	for _, way := range []string{"stream", "list"} {
		t.Run(way, func(t *testing.T) {
			key := "left-" + way
			o := options(way, key, s.Addr())
			o.Source.Redis.ProcessingTimeout = time.Hour
			began := make(chan struct{}, 1000)
			first := start(t, o, event.HandlerFunc(func(context.Context, *event.Event) error {
				began <- struct{}{}
				return errors.New("not now")
			}))
			first.AwaitReady(true)
			produce(t, s.Client(), way, key, 10)
			for range 10 {
				<-began
			}
			first.End()
			o.Instance = "another"
			taken := &runtest.Sink{}
			start(t, o, taken)
			runtest.Eventually(t, "every event", func() bool { return taken.Distinct() == 10 })
		})
	}
}

func TestE2ETLS(t *testing.T) {
	ours, other := servers.NewAuthority(t), servers.NewAuthority(t)
	s := servers.RedisTLS(t, ours, "tls-auth-clients yes")
	client := ours.Client("events")
	cluster, sentinel := servers.RedisClusterTLS(t, ours, "tls-auth-clients no"), servers.RedisSentinelTLS(t, ours, s, "tls-auth-clients no")
	stranger := &plan.TLS{CACerts: other.Cert, Cert: client.Cert, Key: client.Key}
	const unknown = "the server's certificate was signed by an authority that is not trusted: correct tls.caCertFrom"
	clustered, watched := func(p *plan.Redis) { p.Cluster = true }, func(p *plan.Redis) { p.MasterName = "main" }
	tests := []struct {
		name string
		way  string
		s    *servers.RedisServer
		plan func(*plan.Redis)
		tls  *plan.TLS
		want string
	}{
		{"an unknown authority, for a stream", "stream", s, nil, stranger, unknown},
		{"an unknown authority, for a list", "list", s, nil, stranger, unknown},
		{"an unknown authority, for a channel", "channel", s, nil, stranger, unknown},
		{"an unknown authority, for a cluster", "stream", cluster, clustered, stranger, unknown},
		{"an unknown authority, for a Sentinel", "stream", sentinel, watched, stranger, "a Sentinel's certificate was signed by an authority that is not trusted: correct tls.caCertFrom"},
		{"no certificate of the client", "stream", s, nil, &plan.TLS{CACerts: ours.Cert}, "set tls.clientCertFrom and tls.clientKeyFrom"},
		{"no TLS", "stream", s, nil, nil, "set enableTLS to true"},
		{"no TLS, for a cluster", "stream", cluster, clustered, nil, "set enableTLS to true"},
		{"no TLS, for a Sentinel", "stream", sentinel, watched, nil, "a Sentinel ends the connection without an answer: if it wants TLS, set enableTLS to true"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options(tt.way, "secured", tt.s.Addr())
			o.Source.Redis.TLS = tt.tls
			if tt.plan != nil {
				tt.plan(o.Source.Redis)
			}
			err := start(t, o, &runtest.Sink{}).AwaitReady(false).Error()
			if !strings.HasPrefix(err, "redis "+New(o).where()+": ") || !strings.Contains(err, tt.want) {
				t.Errorf("ready(%q), want %q in it", err, tt.want)
			}
		})
	}
	o := options("stream", "secured", s.Addr())
	o.Source.Redis.TLS = &plan.TLS{CACerts: ours.Cert, Cert: client.Cert, Key: client.Key}
	start(t, o, &runtest.Sink{}).AwaitReady(true)

	o = options("stream", "plain", servers.Redis(t).Addr())
	o.Source.Redis.TLS, o.Source.Redis.DialTimeout = &plan.TLS{}, time.Second
	want := "the server does not answer the TLS handshake: if it speaks no TLS, leave out enableTLS and tls, or name its port for TLS in redisHost"
	if err := start(t, o, &runtest.Sink{}).AwaitReady(false); !strings.Contains(err.Error(), want) {
		t.Errorf("ready(%v), want %q in it", err, want)
	}
}

func TestE2ESentinel(t *testing.T) {
	first := servers.Redis(t)
	second := servers.Redis(t, "replicaof "+strings.ReplaceAll(first.Addr(), ":", " "))
	sentinel := servers.RedisSentinel(t, first, "requirepass watch", "sentinel sentinel-pass watch")
	runtest.Eventually(t, "the replica follows", func() bool {
		return strings.Contains(fmt.Sprint(second.Do("INFO", "replication")), "master_link_status:up")
	})
	watcher := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr(), Password: "watch"})
	defer watcher.Close()
	runtest.Eventually(t, "the Sentinel knows the replica", func() bool { return len(watcher.Replicas(t.Context(), "main").Val()) == 1 })

	taken := map[string]*runtest.Sink{}
	for _, way := range []string{"stream", "list"} {
		o := options(way, "failover-"+way, sentinel.Addr())
		o.Source.Redis.MasterName, o.Source.Redis.SentinelPassword = "main", "watch"
		taken[way] = &runtest.Sink{}
		r := start(t, o, taken[way])
		r.AwaitReady(true)
		defer func() {
			if repeated := len(taken[way].Data()) - taken[way].Distinct(); repeated > 2*maxInFlight {
				t.Errorf("%s: %d events came again", way, repeated)
			}
		}()
	}
	before, after := first.Client(), second.Client()
	for way := range taken {
		produce(t, before, way, "failover-"+way, 500)
	}
	// Redis acknowledges what its replica may not have: a failover may lose that.
	if n, err := before.Wait(t.Context(), 1, 30*time.Second).Result(); n != 1 || err != nil {
		t.Fatalf("WAIT = %d, %v", n, err)
	}
	first.Kill()
	runtest.Eventually(t, "the replica is the master", func() bool {
		return strings.Contains(fmt.Sprint(second.Do("INFO", "replication")), "role:master")
	})
	for way, s := range taken {
		for i := range 100 {
			if err := push(after, way, "failover-"+way, fmt.Sprint("after", i)); err != nil {
				t.Fatal(err)
			}
		}
		runtest.Eventually(t, "every event of the "+way, func() bool { return s.Distinct() == 600 })
	}

	o := options("stream", "failover-stream", sentinel.Addr())
	o.Source.Redis.MasterName, o.Source.Redis.SentinelPassword = "main", "wr0ng"
	want := "the Sentinels refuse the user name or password (WRONGPASS): correct sentinelUsername and sentinelPasswordFrom"
	if err := start(t, o, &runtest.Sink{}).AwaitReady(false); !strings.Contains(err.Error(), want) {
		t.Errorf("ready(%v), want %q in it", err, want)
	}
	o.Source.Redis.MasterName, o.Source.Redis.SentinelPassword = "nobody", "watch"
	want = "the Sentinels know no server of that name: correct sentinelMasterName"
	if err := start(t, o, &runtest.Sink{}).AwaitReady(false); !strings.Contains(err.Error(), want) {
		t.Errorf("ready(%v), want %q in it", err, want)
	}
}

func TestE2ECluster(t *testing.T) {
	s := servers.RedisCluster(t)
	c := s.Client()
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			o := options(way, "clustered-"+way, s.Addr())
			o.Source.Redis.Cluster = true
			taken := &runtest.Sink{}
			start(t, o, taken).AwaitReady(true)
			produce(t, c, way, "clustered-"+way, 200)
			runtest.Eventually(t, "every event", func() bool { return taken.Distinct() == 200 })
		})
	}
	for name, test := range map[string]func(*testing.T, *servers.RedisServer, plan.Redis){
		"a process that is killed loses nothing":              processKilled,
		"a password that is changed under load loses nothing": rotation,
	} {
		t.Run(name, func(t *testing.T) { test(t, s, plan.Redis{Cluster: true}) })
	}
	o := options("stream", "x", servers.Redis(t).Addr())
	o.Source.Redis.Cluster = true
	if err := start(t, o, &runtest.Sink{}).AwaitReady(false); !strings.Contains(err.Error(), "the server is not one of a cluster: set redisType to node") {
		t.Errorf("ready(%v)", err)
	}
}

// TestE2ESlotsMove has what is read move from one server of a cluster to another while it is read and written.
func TestE2ESlotsMove(t *testing.T) {
	const moves = 6
	for _, way := range []string{"stream", "list"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			nodes := servers.RedisNodes(t)
			const key = "orders"
			c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].Addr()}, MaxRedirects: 20})
			defer c.Close()
			o := options(way, key, nodes[0].Addr())
			o.Source.Redis.Cluster = true
			taken := &runtest.Sink{}
			start(t, o, taken).AwaitReady(true)
			owner, err := c.MasterForKey(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			at := slices.IndexFunc(nodes, func(s *servers.RedisServer) bool { return s.Addr() == owner.Options().Addr })
			load := sourcetest.StartLoad(t, burst(t, c, way, key))
			for range moves {
				before := taken.Distinct()
				runtest.Eventually(t, "some events", func() bool { return taken.Distinct() > before+300 })
				load.Mark()
				to := (at + 1) % len(nodes)
				nodes[at].MoveSlot(key, nodes[to])
				at = to
				load.Mark()
			}
			n := load.Stop()
			for got := taken.Distinct(); got < n; got = taken.Distinct() { // however long that takes
				runtest.Eventually(t, fmt.Sprintf("more than %d of %d events", got, n), func() bool { return taken.Distinct() > got })
			}
			t.Logf("lost 0 of %d, repeated %d, %d moves", n, len(taken.Data())-n, moves)
		})
	}
}
