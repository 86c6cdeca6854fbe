//go:build e2e

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// guard is a broker that knows its clients by credentials, of which each generation has a number. It begins with 0.
type guard struct {
	// serve has the broker let in whoever shows one of these from now on, or a moment later, and nobody else.
	serve func(n ...int)
	// bus is the n-th as a plan has it.
	bus func(n int) plan.Bus
	// refused is said of one that the broker lets in no more.
	refused string
	// one tells that the broker can let in one at a time.
	one bool
	// records is where events come from besides, with the same credentials; nil is nowhere.
	records func(n int) plan.Kafka
	// produce writes a record with each of these values there.
	produce func(values ...string)
}

// TestE2ERotation changes whatever buses, and sources of Kafka, are let in by while about 1,000 events a second come in: what was answered
// 202 arrives, and so does each record. The connections that were made with the old one end, also where the broker would let them go on.
func TestE2ERotation(t *testing.T) {
	k := servers.SecuredKafka(t)
	guards := kafkaGuards(t, k)
	for kind, start := range map[string]func(*testing.T, natsWay) guard{"jetStream": guardedJetStream, "natsStreaming": guardedNATSStreaming} {
		for name, way := range natsWays(t) {
			if kind == "jetStream" || way.itself != nil {
				guards[kind+" by "+name] = func(t *testing.T) guard { return start(t, way) }
			}
		}
	}
	for name, start := range guards {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start(t).rotates(t, strings.ReplaceAll(name, " ", "-"))
		})
	}
}

func (g guard) rotates(t *testing.T, name string) {
	const some = 500
	var c counted
	d := dialed{conns: map[net.Conn]bool{}}
	r := startWith(t, func(o *Options) {
		o.Observe, o.Dial, o.Grace = nil, d.dial, 20*time.Second // a connection that a client made and did not use counts for five
		o.Display = event.HandlerFunc(func(_ context.Context, e *event.Event) error { c.add(e.ID()); return nil })
	})
	with := func(n int) *plan.Plan { return g.plan(name, n) }
	r.apply(t, with(0))
	if err := g.letsIn(t, r, 0); err != nil {
		t.Fatal(err)
	}

	load := g.load(t, r)
	passes := func(what string) {
		t.Helper()
		before := c.distinct()
		eventually(t, what, func() error {
			if got := c.distinct(); got < before+some {
				return fmt.Errorf("%d, want %d more than %d", got, some, before)
			}
			return nil
		})
	}
	n := 0
	change := func(steps func(apply func())) {
		t.Helper()
		passes("events arrive")
		n++
		var before []net.Conn
		steps(func() {
			before = d.open()
			if err := r.Apply(with(n)); err != nil {
				t.Fatal(err)
			}
		})
		eventually(t, "ready", r.Ready)
		eventually(t, "no connection of before is open", func() error { return d.closed(before) })
		eventually(t, "the old one is refused", func() error {
			if err := g.letsIn(t, r, n-1); err == nil {
				return errors.New("it is let in")
			}
			return nil
		})
	}
	pause := func() { time.Sleep(500 * time.Millisecond) } // how far apart a person does the one and the other
	if !g.one {
		change(func(apply func()) { g.serve(n-1, n); pause(); apply(); passes("with both"); g.serve(n) })
		t.Logf("%d refusals while the broker knew both", load.refused.Load())
	}
	change(func(apply func()) { apply(); pause(); g.serve(n) })
	change(func(apply func()) { g.serve(n); pause(); apply() })
	passes("events arrive at last")

	want := load.end()
	eventually(t, "every event arrives", func() error {
		if got := c.distinct(); got != want {
			return fmt.Errorf("%d of %d", got, want)
		}
		return nil
	})
	if err := r.Ready(); err != nil {
		t.Errorf("Ready() = %v at last", err)
	}
	t.Logf("%d events, 0 lost, %d repeated, %d refusals, %d changes", want, c.all()-want, load.refused.Load(), n)
}

// letsIn returns nil if the broker lets in who connects now with the n-th, and otherwise that it is refused.
func (g guard) letsIn(t *testing.T, r *running, n int) (refused error) {
	t.Helper()
	b, err := r.openBus(named("another", g.bus(n)))
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	eventually(t, "an answer of the broker", func() error {
		err := b.Ready()
		if err != nil && strings.Contains(err.Error(), g.refused) {
			refused, err = err, nil
		}
		return err
	})
	return refused
}

// plan has topics of its own: the brokers of some tests are the same.
func (g guard) plan(name string, n int) *plan.Plan {
	p := onePath(plan.Subscriber{ID: "rotated-" + name, Condition: "a || record", Sink: display("each")})
	p.Sources = p.Sources[:1]
	p.Buses[0] = named("bus", g.bus(n))
	p.Sources[0].Topic += name
	inputs := &p.Subscribers[0].Inputs
	(*inputs)[0].Topic = p.Sources[0].Topic
	(*inputs)[1] = plan.Input{Name: "record", Topic: plan.Topic("default", "es", "record") + name}
	if g.records != nil {
		spec := g.records(n)
		p.Sources = append(p.Sources, plan.Source{
			Namespace: "default", EventSource: "es", Event: "record", Kind: "kafka", Bus: "bus", Topic: (*inputs)[1].Topic, Kafka: &spec,
		})
	}
	return p
}

func named(name string, b plan.Bus) plan.Bus {
	b.Name = name
	return b
}

// load is what comes in until it is told to end.
type load struct {
	refused atomic.Int64
	// end returns how many events there were.
	end func() int
}

func (g guard) load(t *testing.T, r *running) *load {
	const perSecond, minute = 1000, 60
	l := &load{}
	// It goes by the clock: what is refused waits here, and keeps nothing that comes after it from being due.
	work, stop, stopped := make(chan string, minute*perSecond), make(chan struct{}), make(chan int)
	began := time.Now()
	var posting sync.WaitGroup
	for range 64 {
		posting.Go(func() {
			for id := range work {
				for code, _ := r.post("a", id); code != http.StatusAccepted && t.Context().Err() == nil; code, _ = r.post("a", id) {
					l.refused.Add(1)
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	go func() {
		defer close(work)
		ticker := time.NewTicker(time.Second / 10)
		defer ticker.Stop()
		for n := 0; ; {
			var records []string
			for due := int(time.Since(began) * perSecond / time.Second); n < due; n++ {
				if g.produce != nil && n%2 == 0 {
					records = append(records, fmt.Sprint(n))
				} else {
					work <- fmt.Sprint(n)
				}
			}
			if g.produce != nil {
				g.produce(records...)
			}
			select {
			case <-ticker.C:
			case <-stop:
				stopped <- n
				return
			case <-t.Context().Done():
				return
			}
		}
	}()
	l.end = func() int {
		close(stop)
		n := <-stopped
		offered := time.Since(began)
		posting.Wait()
		taken := time.Since(began)
		t.Logf("%.0f events/s were offered, and %.0f/s taken", float64(n)/offered.Seconds(), float64(n)/taken.Seconds())
		return n
	}
	return l
}

func (c *counted) all() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, times := range c.ids {
		n += times
	}
	return n
}

// dialed knows the connections that a gateway has.
type dialed struct {
	mu    sync.Mutex
	conns map[net.Conn]bool
}

func (d *dialed) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	own := &tracked{Conn: c, d: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns[own] = true
	return own, nil
}

type tracked struct {
	net.Conn
	d *dialed
}

func (c *tracked) Close() error {
	c.ended()
	return c.Conn.Close()
}

// Read notices too that the broker has closed the connection.
func (c *tracked) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if late := (net.Error)(nil); err != nil && !(errors.As(err, &late) && late.Timeout()) {
		c.ended()
	}
	return n, err
}

func (c *tracked) ended() {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	delete(c.d.conns, c)
}

func (d *dialed) open() (all []net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		all = append(all, c)
	}
	return all
}

func (d *dialed) closed(conns []net.Conn) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, c := range conns {
		if d.conns[c] {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of %d", n, len(conns))
	}
	return nil
}

// natsWay is how a NATS server lets in clients.
type natsWay struct {
	// lines are those of a server that knows these, besides itself if it is one of NATS Streaming.
	lines func(n ...int) []string
	// itself are the directives by which one of NATS Streaming is let in. Nil: it could not be, while that changes.
	itself  []string
	access  func(n int) plan.NATSAccess
	refused string
	one     bool
}

// natsWays are all of plan.NATSAccess, with three generations besides the first.
func natsWays(t *testing.T) map[string]natsWay {
	const generations = 4
	const stan = "{ user: stan, password: itself }"
	byName := []string{"username: stan", "password: itself"}
	users := func(each func(n int) string) func(n ...int) []string {
		return func(ns ...int) []string {
			all := []string{stan}
			for _, n := range ns {
				all = append(all, each(n))
			}
			return []string{"authorization { users: [ " + strings.Join(all, ", ") + " ] }"}
		}
	}
	secret := func(n int) string { return fmt.Sprint("secret-", n) }

	account := servers.NewNATSAccount(t)
	var keys, seeds, files []string
	var certificates generationsOf
	for range generations {
		key, seed := servers.NewNKey(t)
		keys, seeds, files = append(keys, key), append(seeds, seed), append(files, account.User())
		certificates = append(certificates, servers.NewAuthority(t))
	}
	own := servers.WriteFiles(t, map[string]string{"stan.creds": account.User()})
	return map[string]natsWay{
		"password": {
			lines: users(func(n int) string { return "{ user: bus, password: " + secret(n) + " }" }), itself: byName, one: true,
			access:  func(n int) plan.NATSAccess { return plan.NATSAccess{Username: "bus", Password: secret(n)} },
			refused: `the server refuses the user "bus"`,
		},
		"token": {
			lines: func(n ...int) []string { return []string{"authorization { token: " + secret(n[0]) + " }"} }, one: true,
			access:  func(n int) plan.NATSAccess { return plan.NATSAccess{Token: secret(n)} },
			refused: "correct the value of tokenFrom",
		},
		"nkey": {
			lines: users(func(n int) string { return "{ nkey: " + keys[n] + " }" }), itself: byName,
			access:  func(n int) plan.NATSAccess { return plan.NATSAccess{NKeySeed: seeds[n]} },
			refused: "or correct the value of nkeySeedFrom",
		},
		"credentials file": {
			lines:   func(n ...int) []string { return account.Directives(append(n, generations)...) },
			itself:  []string{fmt.Sprintf("credentials: %q", own("stan.creds"))},
			access:  func(n int) plan.NATSAccess { return plan.NATSAccess{Credentials: files[n]} },
			refused: "correct the value of credentialsFrom",
		},
		"certificate": certificates.nats(t),
	}
}

// generationsOf are authorities, one after the other. Each signs the certificates of the broker and of its clients.
type generationsOf []*servers.Authority

// client is what a client of the n-th shows, and that it trusts the one before too.
func (g generationsOf) client() func(n int) *plan.TLS {
	var shown []servers.Certificate
	for _, a := range g {
		shown = append(shown, a.Client("events"))
	}
	return func(n int) *plan.TLS {
		return &plan.TLS{CACerts: g[max(n-1, 0)].Cert + g[n].Cert, Cert: shown[n].Cert, Key: shown[n].Key}
	}
}

// trusted are those whose clients are let in.
func (g generationsOf) trusted(ns ...int) (all []string) {
	for _, n := range ns {
		all = append(all, g[n].Cert)
	}
	return all
}

func (g generationsOf) nats(t *testing.T) natsWay {
	client := g.client()
	files := map[string]string{"client.pem": client(0).Cert, "client.key": client(0).Key, "trusted.pem": g[0].Cert}
	for n, a := range g {
		c := a.Server()
		files[fmt.Sprint(n, ".pem")], files[fmt.Sprint(n, ".key")] = c.Cert, c.Key
		files[fmt.Sprint(n, "+", n, ".pem")], files[fmt.Sprint(n-1, "+", n, ".pem")] = a.Cert, g[max(n-1, 0)].Cert+a.Cert
	}
	at := servers.WriteFiles(t, files)
	return natsWay{
		lines: func(n ...int) []string {
			return []string{fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true, timeout: 10 }",
				at(fmt.Sprint(n[0], ".pem")), at(fmt.Sprint(n[0], ".key")), at(fmt.Sprint(n[0], "+", n[len(n)-1], ".pem")))}
		},
		itself: []string{"secure: true", fmt.Sprintf("tls { client_cert: %q, client_key: %q, client_ca: %q }", at("client.pem"), at("client.key"), at("trusted.pem"))},
		access: func(n int) plan.NATSAccess { return plan.NATSAccess{TLS: client(n)} }, refused: "certificate",
	}
}

func guardedJetStream(t *testing.T, way natsWay) guard {
	s := servers.JetStream(t, way.lines(0)...)
	return guard{
		serve: func(n ...int) { s.Reload(way.lines(n...)...) }, refused: way.refused, one: way.one,
		bus: func(n int) plan.Bus {
			return plan.Bus{JetStream: &plan.JetStream{URL: s.URL(), AckWait: 2 * time.Second, NATSAccess: way.access(n)}}
		},
	}
}

func guardedNATSStreaming(t *testing.T, way natsWay) guard {
	s := servers.GuardedNATSStreaming(t, way.lines(0), way.itself...)
	return guard{
		serve: func(n ...int) { s.Reload(way.lines(n...)...) }, refused: way.refused, one: way.one,
		bus: func(n int) plan.Bus {
			return plan.Bus{NATSStreaming: &plan.NATSStreaming{
				URL: s.URL(), ClusterID: s.ClusterID, Durable: "d", Queue: true, AckWait: 2 * time.Second, NATSAccess: way.access(n),
			}}
		},
	}
}

func kafkaGuards(t *testing.T, k *servers.SecuredKafkaServer) map[string]func(*testing.T) guard {
	tokens := servers.NewKafkaTokens(t, time.Hour)
	certificates := generationsOf{servers.NewAuthority(t), servers.NewAuthority(t), servers.NewAuthority(t), servers.NewAuthority(t)}
	client := certificates.client()
	secret := func(n int) string { return fmt.Sprint("secret-", n) }
	trusting := &plan.TLS{CACerts: k.Authority.Cert}
	guarded := func(topic string, g guard, access func(n int) plan.KafkaAccess) func(*testing.T) guard {
		return func(*testing.T) guard {
			k.CreateTopic(topic, 3)
			g.serve(0)
			g.bus = func(n int) plan.Bus {
				return plan.Bus{Kafka: &plan.KafkaBus{KafkaAccess: access(n), Partitions: 3, ReplicationFactor: 1, Retention: time.Hour}}
			}
			g.records = func(n int) plan.Kafka {
				return plan.Kafka{KafkaAccess: access(n), Topic: topic, ConsumerGroup: topic, FromOldest: true}
			}
			g.produce = func(values ...string) {
				var records []*sarama.ProducerMessage
				for _, value := range values {
					records = append(records, servers.KafkaRecord(topic, "", value))
				}
				k.Produce(records...)
			}
			return g
		}
	}
	return map[string]func(*testing.T) guard{
		"kafka by password": guarded("by-password", guard{
			serve: func(n ...int) { k.SetPassword("bus", secret(n[0])) }, one: true, refused: `the brokers refuse user "bus" or its password`,
		}, func(n int) plan.KafkaAccess {
			return plan.KafkaAccess{Brokers: []string{k.SASLSSL}, TLS: trusting, SASLMechanism: "SCRAM-SHA-512", Username: "bus", Password: secret(n)}
		}),
		"kafka by token": guarded("by-token", guard{
			serve: func(ns ...int) {
				var all []string
				for _, n := range ns {
					all = append(all, secret(n))
				}
				tokens.SetSecrets(all...)
			},
			refused: `"invalid_client"): correct saslOAuth.tokenURL`,
		}, func(n int) plan.KafkaAccess {
			return plan.KafkaAccess{Brokers: []string{k.SASLSSL}, TLS: trusting, SASLMechanism: "OAUTHBEARER", OAuth: &plan.OAuth{
				TokenURL: tokens.URL, ClientID: tokens.ClientID, ClientSecret: secret(n), Scopes: []string{"kafka"}, CACerts: tokens.Cert,
			}}
		}),
		"kafka by certificate": guarded("by-certificate", guard{
			serve:   func(n ...int) { k.SetCertificates(certificates[n[0]].Server(), certificates.trusted(n...)...) },
			refused: "certificate",
		}, func(n int) plan.KafkaAccess {
			return plan.KafkaAccess{Brokers: []string{k.SSL}, TLS: client(n)}
		}),
	}
}
