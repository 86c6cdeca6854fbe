//go:build e2e

package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source/sourcetest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

func TestE2EConformance(t *testing.T) {
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := servers.Redis(t, "requirepass s3cret")
			f := fixture(way, s.ClientOf("", "s3cret"), plan.Redis{
				Addresses: []string{s.Addr()}, Password: "s3cret", RedeliverInterval: 500 * time.Millisecond, ProcessingTimeout: 5 * time.Second,
			})
			f.Stop, f.Start = func(testing.TB) { s.Kill() }, func(testing.TB) { s.Start() }
			f.Outage, f.Company = 20*time.Second, true
			sourcetest.Run(t, f)
		})
	}
}

func TestE2ERedis(t *testing.T) {
	s := servers.Redis(t)
	for name, test := range map[string]func(*testing.T, *servers.RedisServer){
		"a process that is killed loses nothing":                        processKilled,
		"a password that is changed under load loses nothing":           rotation,
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

func processKilled(t *testing.T, s *servers.RedisServer) {
	for _, way := range []string{"stream", "list"} {
		t.Run(way, func(t *testing.T) {
			const n = 1000
			key, taken := "killed-"+way, t.TempDir()+"/taken"
			c := s.Client()
			startSource(t, s, way, key, taken).Kill() // without one event
			p := startSource(t, s, way, key, taken)
			var producer sync.WaitGroup
			producer.Go(func() { produce(t, c, way, key, n) })
			eventually(t, "some events", func() bool { return len(lines(taken)) > 100 })
			p.Kill()
			producer.Wait()
			before := lines(taken)

			after := &sink{}
			o := options(way, key, s.Addr())
			o.Instance = "another"
			start(t, o, after)
			both := func() int {
				all := map[string]bool{}
				for _, data := range before {
					all[data] = true
				}
				after.mu.Lock()
				defer after.mu.Unlock()
				for data := range after.got {
					all[data] = true
				}
				return len(all)
			}
			eventually(t, "every event", func() bool { return both() == n })
			distinct, _ := total(after)
			t.Logf("lost 0 of %d; %d of them came twice", n, len(before)+distinct-n)
		})
	}
}

func lines(file string) []string {
	b, _ := os.ReadFile(file)
	return strings.Fields(string(b))
}

// startSource runs a source in a process of its own, which appends what it takes to a file. It returns once the source is ready.
func startSource(t *testing.T, s *servers.RedisServer, way, key, file string) *servers.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSourceProcess$")
	ready := t.TempDir() + "/ready"
	cmd.Env = append(os.Environ(), "SOURCE="+strings.Join([]string{s.Addr(), way, key, file, ready}, " "))
	return servers.StartProcess(t, cmd, func() error {
		_, err := os.Stat(ready)
		return err
	})
}

// TestSourceProcess is what startSource runs; by itself it does nothing.
func TestSourceProcess(t *testing.T) {
	args := strings.Fields(os.Getenv("SOURCE"))
	if len(args) == 0 {
		return
	}
	f, err := os.OpenFile(args[3], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	next := event.HandlerFunc(func(_ context.Context, e *event.Event) error {
		_, err := fmt.Fprintln(f, string(e.Data()))
		return err
	})
	err = New(options(args[1], args[2], args[0])).Run(t.Context(), next, func(err error) {
		if err == nil {
			_ = os.WriteFile(args[4], nil, 0o600)
		}
	})
	t.Fatalf("Run() = %v", err)
}

// credential is what a source shows, at first and later.
type credential struct {
	show func(p *plan.Redis, later bool)
	// change has the server take only the later one, and ends the connections that were made with the other.
	change  func()
	refused string
}

func rotation(t *testing.T, s *servers.RedisServer) {
	for _, way := range []string{"stream", "list"} {
		t.Run(way, func(t *testing.T) {
			user := "rotation-" + way
			s.Do("ACL", "SETUSER", user, "on", ">first", "+@all", "~*")
			rotates(t, s, way, credential{
				show: func(p *plan.Redis, later bool) {
					p.Username, p.Password = user, map[bool]string{false: "first", true: "second"}[later]
				},
				change: func() {
					s.Do("ACL", "SETUSER", user, "resetpass", ">second")
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
			ours, next := servers.NewAuthority(t), servers.NewAuthority(t)
			shown := map[bool]servers.Certificate{false: ours.Client("events"), true: next.Client("events")}
			s := servers.RedisTLS(t, ours, "tls-auth-clients optional")
			rotates(t, s, way, credential{
				show: func(p *plan.Redis, later bool) {
					p.TLS = &plan.TLS{CACerts: ours.Cert, Cert: shown[later].Cert, Key: shown[later].Key}
				},
				change: func() {
					s.SetClients(next.Cert)
					s.Do("CLIENT", "KILL", "TYPE", "normal")
				},
				refused: "the server refuses the client certificate (",
			})
		})
	}
}

// rotates changes a credential as one does: on the server, then in the plan, which stops a source and starts another.
func rotates(t *testing.T, s *servers.RedisServer, way string, c credential) {
	const n = 4000
	key := "rotated-" + way
	o := options(way, key, s.Addr())
	c.show(o.Source.Redis, false)
	a, b := &sink{}, &sink{}
	old := start(t, o, a)
	old.awaitReady(true)
	var producer sync.WaitGroup
	producer.Go(func() { produce(t, s.Client(), way, key, n) })
	eventually(t, "some events", func() bool { distinct, _ := total(a); return distinct > 1000 })

	c.change()
	eventually(t, "the source says that it is refused", func() bool { // first, perhaps, that its connection ended
		all := old.all()
		err := all[len(all)-1]
		return err != nil && strings.Contains(err.Error(), c.refused)
	})
	old.end()
	p := *o.Source.Redis
	c.show(&p, true)
	o.Source.Redis = &p
	start(t, o, b).awaitReady(true)
	producer.Wait()
	eventually(t, "every event", func() bool { distinct, _ := total(a, b); return distinct == n })
	_, repeated := total(a, b)
	t.Logf("lost 0 of %d, repeated %d", n, repeated)
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
				taken := &sink{}
				r := start(t, o, taken)
				c := s.Client()
				if way != "channel" {
					eventually(t, "the group", func() bool { return len(r.all()) > 0 })
					if err := push(c, way, key, "x"); err != nil {
						t.Fatal(err)
					}
				}
				err := r.awaitReady(false).Error()
				for _, want := range []string{s.Addr(), command, "(NOPERM): grant it with ACL SETUSER"} {
					if !strings.Contains(err, want) {
						t.Errorf("ready(%q), want %q in it", err, want)
					}
				}
				time.Sleep(time.Second) // a few attempts more, which are not said
				s.Do("ACL", "SETUSER", user+command, "+"+command)
				r.awaitReady(true)
				if err := push(c, way, key, "y"); err != nil {
					t.Fatal(err)
				}
				eventually(t, "an event", func() bool { return taken.count("y") == 1 })
				if n := len(r.all()); n > 3 {
					t.Errorf("ready was called %d times, with %v", n, r.all())
				}
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
			taken := &sink{}
			r := startLogged(t, o, taken, zap.New(core).Sugar())
			r.awaitReady(true)
			if err := push(s.Client(), way, key, "x"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "an event", func() bool { return taken.count("x") == 1 })
			time.Sleep(4 * o.Source.Redis.RedeliverInterval) // for what is done from time to time
			r.end()
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
	a, b := &sink{refuse: func(string) error { began <- struct{}{}; <-release; return nil }}, &sink{}
	start(t, o, a).awaitReady(true)
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
	start(t, o, b).awaitReady(true)
	time.Sleep(3 * timeout)
	close(release)
	eventually(t, "every event", func() bool { distinct, _ := total(a); return distinct == 10 })
	if stolen, _ := total(b); stolen > 0 {
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
	taken := &sink{}
	start(t, o, taken).awaitReady(true)
	eventually(t, "the consumer that is gone is forgotten", func() bool {
		consumers, err := c.XInfoConsumers(t.Context(), key, "group").Result()
		return err == nil && !slices.ContainsFunc(consumers, func(c redis.XInfoConsumer) bool { return c.Name == "a pod of long ago" })
	})
	if err := push(c, "stream", key, "x"); err != nil { // the one that lives may have been forgotten too, which means nothing
		t.Fatal(err)
	}
	eventually(t, "an event", func() bool { return taken.count("x") == 1 })
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
	taken := &sink{}
	start(t, options("stream", key, s.Addr()), taken)
	eventually(t, "the entry that stays", func() bool { return taken.count("stays") == 1 })
	eventually(t, "nothing is pending", func() bool { return c.XPending(ctx, key, "group").Val().Count == 0 })
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
			first.awaitReady(true)
			produce(t, s.Client(), way, key, 10)
			for range 10 {
				<-began
			}
			first.end()
			o.Instance = "another"
			taken := &sink{}
			start(t, o, taken)
			eventually(t, "every event", func() bool { distinct, _ := total(taken); return distinct == 10 })
		})
	}
}

func TestE2ETLS(t *testing.T) {
	ours, other := servers.NewAuthority(t), servers.NewAuthority(t)
	s := servers.RedisTLS(t, ours, "tls-auth-clients yes")
	client := ours.Client("events")
	tests := []struct {
		name string
		tls  *plan.TLS
		want string
	}{
		{"an unknown authority", &plan.TLS{CACerts: other.Cert, Cert: client.Cert, Key: client.Key}, "signed by an authority that is not trusted: correct tls.caCertFrom"},
		{"no certificate of the client", &plan.TLS{CACerts: ours.Cert}, "set tls.clientCertFrom and tls.clientKeyFrom"},
		{"no TLS", nil, "set enableTLS to true"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options("stream", "secured", s.Addr())
			o.Source.Redis.TLS = tt.tls
			err := start(t, o, &sink{}).awaitReady(false).Error()
			if !strings.HasPrefix(err, "redis "+s.Addr()+": ") || !strings.Contains(err, tt.want) {
				t.Errorf("ready(%q), want %q in it", err, tt.want)
			}
		})
	}
	o := options("stream", "secured", s.Addr())
	o.Source.Redis.TLS = &plan.TLS{CACerts: ours.Cert, Cert: client.Cert, Key: client.Key}
	start(t, o, &sink{}).awaitReady(true)

	o = options("stream", "plain", servers.Redis(t).Addr())
	o.Source.Redis.TLS, o.Source.Redis.DialTimeout = &plan.TLS{}, time.Second
	want := "the server does not answer the TLS handshake: if it speaks no TLS, leave out enableTLS and tls, or name its port for TLS in redisHost"
	if err := start(t, o, &sink{}).awaitReady(false); !strings.Contains(err.Error(), want) {
		t.Errorf("ready(%v), want %q in it", err, want)
	}
}

func TestE2ESentinel(t *testing.T) {
	first := servers.Redis(t)
	second := servers.Redis(t, "replicaof "+strings.ReplaceAll(first.Addr(), ":", " "))
	sentinel := servers.RedisSentinel(t, first, "requirepass watch", "sentinel sentinel-pass watch")
	eventually(t, "the replica follows", func() bool {
		return strings.Contains(fmt.Sprint(second.Do("INFO", "replication")), "master_link_status:up")
	})
	watcher := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr(), Password: "watch"})
	defer watcher.Close()
	eventually(t, "the Sentinel knows the replica", func() bool { return len(watcher.Replicas(t.Context(), "main").Val()) == 1 })

	taken := map[string]*sink{}
	for _, way := range []string{"stream", "list"} {
		o := options(way, "failover-"+way, sentinel.Addr())
		o.Source.Redis.MasterName, o.Source.Redis.SentinelPassword = "main", "watch"
		taken[way] = &sink{}
		r := start(t, o, taken[way])
		r.awaitReady(true)
		defer func() {
			if _, repeated := total(taken[way]); repeated > 2*maxInFlight {
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
	eventually(t, "the replica is the master", func() bool {
		return strings.Contains(fmt.Sprint(second.Do("INFO", "replication")), "role:master")
	})
	for way, s := range taken {
		for i := range 100 {
			if err := push(after, way, "failover-"+way, fmt.Sprint("after", i)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "every event of the "+way, func() bool { distinct, _ := total(s); return distinct == 600 })
	}

	o := options("stream", "failover-stream", sentinel.Addr())
	o.Source.Redis.MasterName, o.Source.Redis.SentinelPassword = "main", "wr0ng"
	want := "the Sentinels refuse the user name or password (WRONGPASS): correct sentinelUsername and sentinelPasswordFrom"
	if err := start(t, o, &sink{}).awaitReady(false); !strings.Contains(err.Error(), want) {
		t.Errorf("ready(%v), want %q in it", err, want)
	}
	o.Source.Redis.MasterName, o.Source.Redis.SentinelPassword = "nobody", "watch"
	want = "the Sentinels know no server of that name: correct sentinelMasterName"
	if err := start(t, o, &sink{}).awaitReady(false); !strings.Contains(err.Error(), want) {
		t.Errorf("ready(%v), want %q in it", err, want)
	}
}

func TestE2ECluster(t *testing.T) {
	s := servers.RedisCluster(t)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.Addr()}})
	defer c.Close()
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			o := options(way, "clustered-"+way, s.Addr())
			o.Source.Redis.Cluster = true
			taken := &sink{}
			start(t, o, taken).awaitReady(true)
			produce(t, c, way, "clustered-"+way, 200)
			eventually(t, "every event", func() bool { distinct, _ := total(taken); return distinct == 200 })
		})
	}
	o := options("stream", "x", servers.Redis(t).Addr())
	o.Source.Redis.Cluster = true
	if err := start(t, o, &sink{}).awaitReady(false); !strings.Contains(err.Error(), "the server is not one of a cluster: set redisType to node") {
		t.Errorf("ready(%v)", err)
	}
}
