//go:build e2e

package mqtt

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/pkg/gateway/source/sourcetest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// outageTime is how long the broker is away in one case of each way that loses nothing; in the others until the source has noticed.
const outageTime = 20 * time.Second

func TestE2EConformance(t *testing.T) {
	plain := func(m *servers.MosquittoServer) plan.MQTT { return plan.MQTT{URL: "tcp://" + m.Users} }
	secure := func(m *servers.MosquittoServer) plan.MQTT {
		return plan.MQTT{URL: "ssl://" + m.TLS, TLS: &plan.TLS{CACerts: m.Authority.Cert}}
	}
	for _, tt := range []struct {
		way
		base   func(*servers.MosquittoServer) plan.MQTT
		outage time.Duration
	}{
		{way{5, 0, ""}, plain, 0}, {way{5, 1, ""}, secure, outageTime}, {way{5, 2, ""}, plain, outageTime},
		{way{3, 0, ""}, plain, 0}, {way{3, 1, ""}, plain, outageTime}, {way{3, 2, ""}, secure, 0}, {way{5, 1, "group"}, plain, outageTime},
	} {
		t.Run(tt.String(), func(t *testing.T) {
			t.Parallel()
			m := servers.Mosquitto(t)
			m.SetPassword("reader", "secret")
			base := tt.base(m)
			base.Username, base.Password = "reader", "secret"
			f := fixture(tt.way, base, m.Publisher())
			f.Stop, f.Start, f.Outage = func(testing.TB) { m.Kill() }, func(testing.TB) { m.Start() }, tt.outage
			f.Company = true
			sourcetest.Run(t, f)
		})
	}
}

// TestE2EKilled kills processes with -9 while they receive, and counts.
func TestE2EKilled(t *testing.T) {
	const n, kills = 2000, 3
	m := servers.Mosquitto(t)
	for _, w := range []way{{5, 1, ""}, {5, 2, ""}, {3, 1, ""}, {3, 2, ""}, {5, 1, "group"}} {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			o := options("tcp://"+m.Open, w.version, w.qos)
			o.Source.MQTT.Topic = fmt.Sprint("killed/", topics.Add(1), "/#")
			o.Source.MQTT.ClientID, o.Source.MQTT.Group = o.Source.MQTT.Topic, w.group
			file := t.TempDir() + "/taken"
			p := startSource(t, o, file)
			produced := make(chan struct{})
			go func() {
				defer close(produced)
				publisher := m.Publisher()
				for i := range n {
					topic := strings.Replace(o.Source.MQTT.Topic, "#", fmt.Sprint(i%7), 1)
					publisher.Publish(t, &paho.Publish{Topic: topic, QoS: w.qos, Payload: fmt.Append(nil, i)})
				}
			}()
			for range kills {
				before := len(runtest.Lines(file))
				runtest.Eventually(t, "some messages", func() bool { return len(runtest.Lines(file)) > before+50 || len(runtest.Lines(file)) >= n })
				p.Kill()
				p = startSource(t, o, file)
			}
			<-produced
			runtest.Eventually(t, "every message", func() bool { return runtest.Distinct(runtest.Lines(file)) == n })
			t.Logf("%d messages, 0 lost, %d repeated, %d processes killed", n, len(runtest.Lines(file))-n, kills)
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

func TestE2EAccess(t *testing.T) {
	m := servers.Mosquitto(t)
	m.SetPassword("reader", "secret")
	stranger := servers.NewAuthority(t)
	mine, strangers := m.Authority.Client("me"), stranger.Client("me")
	trusting := &plan.TLS{CACerts: m.Authority.Cert}
	user := func(url, password string, tls *plan.TLS) plan.MQTT {
		return plan.MQTT{URL: url, Username: "reader", Password: password, TLS: tls}
	}
	const noUser = "the server lets nobody in without a user name and password: set username and passwordFrom, or allow the client id "
	const refused = `the server refuses the user name "reader" or its password: correct username and passwordFrom, or allow the user there`
	const unknown = "the server's certificate was signed by an authority that is not trusted: "
	const noCertificate = "the server wants a client certificate ("
	const badCertificate = "the server refuses the client certificate ("
	tests := []struct {
		name string
		mqtt plan.MQTT
		want string // what ready says after "mqtt HOST: "; empty: it is let in
	}{
		{"a password", user("tcp://"+m.Users, "secret", nil), ""},
		{"a password with TLS", user("ssl://"+m.TLS, "secret", trusting), ""},
		{"a client certificate", plan.MQTT{URL: "mqtts://" + m.Mutual, TLS: &plan.TLS{CACerts: m.Authority.Cert, Cert: mine.Cert, Key: mine.Key}}, ""},
		{"a wrong password", user("tcp://"+m.Users, sourcetest.WrongSecret, nil), refused},
		{"a wrong password with TLS", user("ssl://"+m.TLS, sourcetest.WrongSecret, trusting), refused},
		{"no user", plan.MQTT{URL: "tcp://" + m.Users}, noUser},
		{"an authority that is not known", user("ssl://"+m.TLS, "secret", &plan.TLS{CACerts: stranger.Cert}), unknown},
		{"the system's authorities", user("ssl://"+m.TLS, "secret", nil), unknown},
		{"no client certificate", plan.MQTT{URL: "ssl://" + m.Mutual, TLS: trusting}, noCertificate},
		{"a stranger's certificate", plan.MQTT{URL: "ssl://" + m.Mutual, TLS: &plan.TLS{CACerts: m.Authority.Cert, Cert: strangers.Cert, Key: strangers.Key}}, badCertificate},
		{"plain text on a port of TLS", user("tcp://"+m.TLS, "secret", nil), "the server ends the connection without an answer: if it wants TLS, use ssl:// in url"},
		{"TLS on a port of plain text", user("ssl://"+m.Users, "secret", trusting), "the server ends the connection in the TLS handshake: if it speaks no TLS, use its port for TLS in url, or tcp:// and no certificates"},
	}
	for _, tt := range tests {
		for name, version := range versions {
			t.Run(tt.name+", "+name, func(t *testing.T) {
				t.Parallel()
				topic := fmt.Sprint("access/", topics.Add(1))
				o := options("", version, 1)
				spec := tt.mqtt
				spec.Topic, spec.ClientID, spec.Version, spec.QOS = topic, topic, version, 1
				o.Source.MQTT = &spec
				core, logs := observer.New(zapcore.InfoLevel)
				s := &runtest.Sink{}
				r := startLogged(t, o, s, zap.New(core).Sugar())
				if tt.want == "" {
					r.AwaitReady(true)
					m.Publisher().Publish(t, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte("let in")})
					s.Await(t, "let in")
					return
				}
				_, address, _ := strings.Cut(spec.URL, "://")
				if got, want := r.AwaitReady(false).Error(), "mqtt "+address+": "+tt.want; !strings.HasPrefix(got, want) {
					t.Errorf("ready(%v)\nwant  %s", got, want)
				}
				r.End()
				if logs.Len() != 1 || strings.Contains(fmt.Sprint(logs.All()), sourcetest.WrongSecret) {
					t.Errorf("logged %v, want one line without the secret", logs.All())
				}
			})
		}
	}
}

// TestE2ERotation changes the password of a user, or the authority of clients' certificates, while 1,000 messages a second are published, at the
// broker first and in the plan first in turn. The test plays the gateway: a changed Secret is a changed plan, for which one Source is stopped
// and another one started.
func TestE2ERotation(t *testing.T) {
	for _, w := range []way{{5, 1, ""}, {5, 2, ""}, {3, 1, ""}} {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			m := servers.Mosquitto(t)
			secret := func(n int) string { return fmt.Sprint("secret-", n) }
			m.SetPassword("reader", secret(0))
			rotate(t, m, w, credential{
				show: func(p *plan.MQTT, n int) {
					p.URL, p.TLS = "ssl://"+m.TLS, &plan.TLS{CACerts: m.Authority.Cert}
					p.Username, p.Password = "reader", secret(n)
				},
				change:  func(n int) { m.SetPassword("reader", secret(n)) },
				refused: "passwordFrom",
			})
		})
	}
	t.Run("certificate", func(t *testing.T) {
		t.Parallel()
		m := servers.Mosquitto(t)
		authorities := []*servers.Authority{m.Authority}
		var shown []servers.Certificate
		for range rotations {
			authorities = append(authorities, servers.NewAuthority(t))
		}
		for _, a := range authorities {
			shown = append(shown, a.Client("events"))
		}
		rotate(t, m, way{5, 1, ""}, credential{
			show: func(p *plan.MQTT, n int) {
				p.URL, p.TLS = "ssl://"+m.Mutual, &plan.TLS{CACerts: m.Authority.Cert, Cert: shown[n].Cert, Key: shown[n].Key}
			},
			change:  func(n int) { m.SetClients(authorities[n].Cert) },
			refused: "the server refuses the client certificate (",
		})
	})
}

const rotations = 4

// credential has numbers, from 0 on.
type credential struct {
	show func(p *plan.MQTT, n int)
	// change has the broker take only the n-th.
	change  func(n int)
	refused string
}

func rotate(t *testing.T, m *servers.MosquittoServer, w way, c credential) {
	o := options("", w.version, w.qos)
	o.Source.MQTT.Topic, o.Source.MQTT.ClientID = "rotation/#", "rotation"
	c.show(o.Source.MQTT, 0)
	s := &runtest.Sink{}
	r := start(t, o, s)
	r.AwaitReady(true)

	defer func() {
		if t.Failed() {
			t.Logf("%d messages; the server says:\n%s", s.Distinct(), m.Output())
		}
	}()
	load := sourcetest.StartLoad(t, burst(t, m, w.qos))
	refused := func(r *runtest.Running) {
		t.Helper()
		for !strings.Contains(r.AwaitReady(false).Error(), c.refused) { // first it is only away
		}
	}
	for i := 1; i <= rotations; i++ {
		before := s.Distinct()
		runtest.Eventually(t, "messages are received", func() bool { return s.Distinct() > before+500 })
		load.Mark()
		changed := *o.Source.MQTT
		c.show(&changed, i)
		o.Source.MQTT = &changed
		if i%2 == 0 {
			c.change(i)
			refused(r)
			r.End()
			r = start(t, o, s)
		} else {
			r.End()
			r = start(t, o, s)
			refused(r)
			c.change(i)
		}
		r.AwaitReady(true)
		load.Mark()
	}
	n := load.Stop()
	for got := s.Distinct(); got < n; got = s.Distinct() { // however long that takes
		runtest.Eventually(t, fmt.Sprintf("more than %d of %d messages", got, n), func() bool { return s.Distinct() > got })
	}
	if got := s.Distinct(); got != n {
		t.Errorf("%d messages, want %d", got, n)
	}
	t.Logf("%d messages, 0 lost, %d repeated, %d changes", n, len(s.Events())-n, rotations)
}

// burst publishes numbers over several connections at once, since each of them waits for the server's answers.
func burst(t *testing.T, m *servers.MosquittoServer, qos byte) func(from, to int) {
	publishers := make([]*servers.MQTTPublisher, 10)
	for i := range publishers {
		publishers[i] = m.Publisher()
	}
	return func(from, to int) {
		var all sync.WaitGroup
		for topic, publisher := range publishers {
			all.Go(func() {
				for i := from; i < to; i++ {
					if i%len(publishers) == topic {
						publisher.Publish(t, &paho.Publish{Topic: fmt.Sprint("rotation/", topic), QoS: qos, Payload: fmt.Append(nil, i)})
					}
				}
			})
		}
		all.Wait()
	}
}

// TestE2EGroupShares has two members of a group, one of which is killed and comes back.
func TestE2EGroupShares(t *testing.T) {
	m := servers.Mosquitto(t)
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			const n = 600
			topic := fmt.Sprint("shared/", topics.Add(1))
			member := func(instance string, s *runtest.Sink, network *network) *runtest.Running {
				o := options("tcp://"+m.Open, version, 1)
				o.Source.MQTT.Topic, o.Source.MQTT.ClientID, o.Source.MQTT.Group = topic, topic, "group"
				o.Instance, o.Dial = instance, network.dial
				r := start(t, o, s)
				r.AwaitReady(true)
				return r
			}
			var mu sync.Mutex
			dead := false
			sinks := []*runtest.Sink{{}, {Refuse: func(string) error {
				mu.Lock()
				defer mu.Unlock()
				if dead {
					return errors.New("dead")
				}
				return nil
			}}, {}}
			wire := &network{}
			member("a", sinks[0], new(network))
			second := member("b", sinks[1], wire)
			publisher := m.Publisher()
			publish := func(from, to int) {
				for i := from; i < to; i++ {
					publisher.Publish(t, &paho.Publish{Topic: topic, QoS: 1, Payload: fmt.Append(nil, i)})
				}
			}
			publish(0, n/3)
			runtest.Eventually(t, "the messages of two members", func() bool { return total(sinks) == n/3 })
			if len(sinks[0].Events()) == 0 || len(sinks[1].Events()) == 0 {
				t.Errorf("the two took %d and %d messages, want some each", len(sinks[0].Events()), len(sinks[1].Events()))
			}
			mu.Lock()
			dead = true
			mu.Unlock()
			publish(n/3, 2*n/3)
			wire.cut()
			second.End()
			publish(2*n/3, n)
			member("b", sinks[2], new(network))
			runtest.Eventually(t, "every message", func() bool { return total(sinks) == n })
		})
	}
}

// total counts the distinct messages that the sinks took.
func total(sinks []*runtest.Sink) int {
	var all []string
	for _, s := range sinks {
		all = append(all, s.Data()...)
	}
	return runtest.Distinct(all)
}
