package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

func each(t *testing.T, test func(t *testing.T, version int)) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, version)
		})
	}
}

func TestMessagesBecomeEvents(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		for qos := range byte(3) {
			b, s := newBroker(t, brokerOptions{}), &runtest.Sink{}
			start(t, b.options(version, qos), s).AwaitReady(true)
			const n = 300
			for i := range n {
				b.send(fmt.Sprint("t/", i%3), fmt.Sprint(i), qos)
			}
			runtest.Eventually(t, fmt.Sprintf("every message of QoS %d", qos), func() bool { return s.Distinct() == n })
			last, ids := map[string]int{}, map[string]bool{}
			for _, e := range s.Events() {
				var i int
				_, _ = fmt.Sscan(string(e.Data()), &i)
				if i < last[e.Subject()] {
					t.Errorf("QoS %d, topic %s: %d comes after %d", qos, e.Subject(), i, last[e.Subject()])
				}
				last[e.Subject()] = i
				ids[e.ID()] = true
			}
			if len(s.Events()) != n || len(ids) != n {
				t.Errorf("QoS %d: %d events with %d ids, want %d", qos, len(s.Events()), len(ids), n)
			}
			runtest.Eventually(t, "every acknowledgement", func() bool { return b.unacknowledged("client") == 0 })
		}
	})
}

func TestWhatComesWhileTheSourceIsAwayIsDelivered(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		for _, clean := range []bool{false, true} {
			b, s := newBroker(t, brokerOptions{}), &runtest.Sink{}
			o := b.options(version, 1)
			o.Source.MQTT.CleanSession = clean
			first := start(t, o, s)
			first.AwaitReady(true)
			b.send("t/a", "before", 1)
			s.Await(t, "before")
			first.End()
			b.send("t/a", "away", 1)
			start(t, o, s).AwaitReady(true)
			b.send("t/a", "after", 1)
			s.Await(t, "after")
			if clean && s.Count("away") > 0 {
				t.Error("a clean session has kept a message")
			}
			if !clean {
				s.Await(t, "away")
			}
		}
	})
}

func TestALostConnectionRepeatsNothingThatIsBeingHandled(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		for qos := byte(1); qos <= 2; qos++ {
			b, n := newBroker(t, brokerOptions{}), &network{}
			free := make(chan struct{})
			s := &runtest.Sink{Refuse: func(string) error { <-free; return nil }}
			o := b.options(version, qos)
			o.Dial = n.dial
			r := start(t, o, s)
			r.AwaitReady(true)
			for i := range 10 {
				b.send(fmt.Sprint("t/", i), fmt.Sprint(i), qos)
			}
			runtest.Eventually(t, "all messages under way", func() bool { return b.unacknowledged("client") == 10 })
			for range 2 {
				n.cut()
				r.AwaitReady(false)
				r.AwaitReady(true)
			}
			close(free)
			runtest.Eventually(t, "every acknowledgement", func() bool { return b.unacknowledged("client") == 0 })
			if got := len(s.Events()); got != 10 {
				t.Errorf("QoS %d: %d events, want 10", qos, got)
			}
		}
	})
}

func TestASourceThatStopsFinishesWhatItHas(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		b := newBroker(t, brokerOptions{})
		begun, free := make(chan struct{}, 100), make(chan struct{})
		s := &runtest.Sink{Refuse: func(string) error { begun <- struct{}{}; <-free; return nil }}
		r := start(t, b.options(version, 1), s)
		r.AwaitReady(true)
		for i := range 20 {
			b.send(fmt.Sprint("t/", i), fmt.Sprint(i), 1)
		}
		for range 20 {
			<-begun
		}
		r.Stop()
		close(free)
		r.End()
		if got := len(s.Events()); got != 20 {
			t.Errorf("%d events, want 20", got)
		}
		if got := b.unacknowledged("client"); got != 0 {
			t.Errorf("the broker would send %d messages again, want none", got)
		}
	})
}

func TestAMessageThatIsNotTakenIsTriedAgainAndHoldsUpOnlyItsTopic(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		b := newBroker(t, brokerOptions{})
		broken := make(chan struct{})
		core, logs := observer.New(zapcore.WarnLevel)
		s := &runtest.Sink{Refuse: func(data string) error {
			select {
			case <-broken:
			default:
				if data == "bad" {
					return errors.New("away")
				}
			}
			return nil
		}}
		startLogged(t, b.options(version, 1), s, zap.New(core).Sugar()).AwaitReady(true)
		b.send("t/a", "bad", 1)
		b.send("t/a", "behind", 1)
		b.send("t/b", "other", 1)
		s.Await(t, "other")
		if s.Count("behind") > 0 {
			t.Error("a message overtook one of its topic")
		}
		close(broken)
		s.Await(t, "bad", "behind")
		if got := logs.FilterMessage("event is not taken, trying again").Len(); got != 1 {
			t.Errorf("it was said %d times, want 1", got)
		}
	})
}

func TestAMessageThatIsRefusedForGoodIsDropped(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		b := newBroker(t, brokerOptions{})
		core, logs := observer.New(zapcore.ErrorLevel)
		s := &runtest.Sink{Refuse: func(data string) error {
			if data == "large" {
				return event.Permanent(event.ErrTooLarge)
			}
			return nil
		}}
		startLogged(t, b.options(version, 1), s, zap.New(core).Sugar()).AwaitReady(true)
		b.send("t/a", "large", 1)
		b.send("t/a", "next", 1)
		s.Await(t, "next")
		runtest.Eventually(t, "every acknowledgement", func() bool { return b.unacknowledged("client") == 0 })
		if logs.Len() != 1 {
			t.Errorf("%d lines, want 1", logs.Len())
		}
	})
}

func TestAGroupSharesMessages(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		b, s := newBroker(t, brokerOptions{}), [2]*runtest.Sink{{}, {}}
		for i := range s {
			o := b.options(version, 1)
			o.Source.MQTT.Group, o.Instance = "g", fmt.Sprint("replica-", i)
			start(t, o, s[i]).AwaitReady(true)
		}
		const n = 200
		for i := range n {
			b.send("t/a", fmt.Sprint(i), 1)
		}
		runtest.Eventually(t, "every message", func() bool { return s[0].Distinct()+s[1].Distinct() == n })
		if len(s[0].Events()) == 0 || len(s[1].Events()) == 0 {
			t.Errorf("the two took %d and %d messages, want some each", len(s[0].Events()), len(s[1].Events()))
		}
		if got := len(s[0].Events()) + len(s[1].Events()); got != n {
			t.Errorf("%d events, want %d", got, n)
		}
	})
}

func TestRetainedMessagesAreMarked(t *testing.T) {
	each(t, func(t *testing.T, version int) {
		b, s := newBroker(t, brokerOptions{}), &runtest.Sink{}
		b.publish(packets.Packet{FixedHeader: packets.FixedHeader{Qos: 1, Retain: true}, TopicName: "t/a", Payload: []byte("old")})
		start(t, b.options(version, 1), s).AwaitReady(true)
		s.Await(t, "old")
		b.send("t/a", "new", 1)
		s.Await(t, "new")
		for _, e := range s.Events() {
			want := any(nil)
			if string(e.Data()) == "old" {
				want = "true"
			}
			if got := e.Extensions()["mqttretained"]; got != want {
				t.Errorf("%s: mqttretained = %v, want %v", e.Data(), got, want)
			}
		}
	})
}

func TestConnections(t *testing.T) {
	a := servers.NewAuthority(t)
	secure := &tls.Config{Certificates: []tls.Certificate{a.Server().Pair(t)}}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM([]byte(a.Cert))
	mutual := &tls.Config{Certificates: secure.Certificates, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
	shown := a.Client("gateway")
	stranger := servers.NewAuthority(t)
	forged, past := stranger.Client("gateway"), time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	expired := &tls.Config{Certificates: []tls.Certificate{a.ServerAt(past.Add(-time.Hour), past).Pair(t)}}
	users := map[string]string{"user": "right"}
	tests := []struct {
		name   string
		broker brokerOptions
		scheme string
		change func(*plan.MQTT)
		want   string // the error; empty: none. BROKER stands for its address
	}{
		{"mqtt", brokerOptions{}, "mqtt", nil, ""},
		{"websocket", brokerOptions{websocket: true}, "ws", nil, ""},
		{"TLS", brokerOptions{tls: secure}, "ssl", func(m *plan.MQTT) { m.TLS = &plan.TLS{CACerts: a.Cert} }, ""},
		{"TLS that only the plan asks for", brokerOptions{tls: secure}, "tcp", func(m *plan.MQTT) { m.TLS = &plan.TLS{CACerts: a.Cert} }, ""},
		{"client certificate", brokerOptions{tls: mutual}, "mqtts", func(m *plan.MQTT) {
			m.TLS = &plan.TLS{CACerts: a.Cert, Cert: shown.Cert, Key: shown.Key}
		}, ""},
		{"password", brokerOptions{users: users}, "tcp", func(m *plan.MQTT) { m.Username, m.Password = "user", "right" }, ""},
		{"password in the URL", brokerOptions{users: users}, "tcp://user:right@", nil, ""},
		{"unknown authority", brokerOptions{tls: secure}, "ssl", func(m *plan.MQTT) { m.TLS = &plan.TLS{CACerts: stranger.Cert} },
			"mqtt BROKER: the server's certificate was signed by an authority that is not trusted: correct caCertFrom: no valid certificate of that authority is there"},
		{"system's authorities", brokerOptions{tls: secure}, "tls", nil,
			"mqtt BROKER: the server's certificate was signed by an authority that is not trusted: set caCertFrom to the certificate of that authority"},
		{"another name", brokerOptions{tls: secure}, "tls", func(m *plan.MQTT) { m.TLS = &plan.TLS{CACerts: a.Cert, ServerName: "example.com"} },
			"mqtt BROKER: the server's certificate is for another host (x509: certificate is valid for localhost, not example.com): " +
				"use a name in url that it holds, or give the server a certificate for this one"},
		{"no client certificate", brokerOptions{tls: mutual}, "ssl", func(m *plan.MQTT) { m.TLS = &plan.TLS{CACerts: a.Cert} },
			"mqtt BROKER: the server wants a client certificate (tls: certificate required): set clientCertFrom and clientKeyFrom"},
		{"an expired certificate", brokerOptions{tls: expired}, "ssl", func(m *plan.MQTT) { m.TLS = &plan.TLS{CACerts: a.Cert} },
			"mqtt BROKER: the server's certificate expired at 2020-02-03T04:05:06Z: renew it there"},
		{"a stranger's client certificate", brokerOptions{tls: mutual}, "ssl", func(m *plan.MQTT) {
			m.TLS = &plan.TLS{CACerts: a.Cert, Cert: forged.Cert, Key: forged.Key}
		}, "mqtt BROKER: the server refuses the client certificate (tls: unknown certificate authority): correct clientCertFrom and clientKeyFrom"},
		{"no TLS there", brokerOptions{}, "ssl", nil,
			"mqtt BROKER: the server ends the connection in the TLS handshake: if it speaks no TLS, use its port for TLS in url, or tcp:// and no certificates"},
		{"wrong password", brokerOptions{users: users}, "tcp", func(m *plan.MQTT) { m.Username, m.Password = "user", "wrong" },
			`mqtt BROKER: the server refuses the user name "user" or its password (it says: "bad username or password"): correct username and passwordFrom, or allow the user there`},
		{"no password", brokerOptions{users: users}, "tcp", nil,
			`mqtt BROKER: the server lets nobody in without a user name and password (it says: "bad username or password"): set username and passwordFrom, or allow the client id "client" there`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, s := newBroker(t, tt.broker), &runtest.Sink{}
			url := tt.scheme + "://" + b.addr
			if strings.Contains(tt.scheme, "@") {
				url = tt.scheme + b.addr
			}
			o := options(url, 5, 1)
			if tt.change != nil {
				tt.change(o.Source.MQTT)
			}
			r := start(t, o, s)
			if tt.want == "" {
				r.AwaitReady(true)
				b.send("t/a", "hello", 1)
				s.Await(t, "hello")
				return
			}
			if got, want := r.AwaitReady(false).Error(), strings.ReplaceAll(tt.want, "BROKER", b.addr); got != want {
				t.Errorf("ready(%s)\nwant  %s", got, want)
			}
		})
	}
}

func TestAnAbsentBrokerIsSaidOnce(t *testing.T) {
	addr := servers.FreeAddress(t)
	core, logs := observer.New(zapcore.InfoLevel)
	r := startLogged(t, options("tcp://"+addr, 5, 1), &runtest.Sink{}, zap.New(core).Sugar())
	if err := r.AwaitReady(false); !strings.HasPrefix(err.Error(), "mqtt "+addr+": dial tcp") {
		t.Errorf("ready(%v)", err)
	}
	runtest.Eventually(t, "a line", func() bool { return logs.Len() > 0 })
	r.End()
	if logs.Len() != 1 {
		t.Errorf("%d lines, want 1: %v", logs.Len(), logs.All())
	}
}

func TestAURLThatCannotBeIsAnError(t *testing.T) {
	for url, want := range map[string]string{
		"http://host":          "subscribe to t/#: url http://host: want tcp, mqtt, ssl, tls, mqtts, ws or wss and a host, for example tcp://host:1883",
		"tcp://":               "subscribe to t/#: url tcp://: want tcp, mqtt, ssl, tls, mqtts, ws or wss and a host, for example tcp://host:1883",
		"tcp://u:secret@h:x":   "subscribe to t/#: its url cannot be read: want for example tcp://host:1883",
		"gopher://u:secret@h/": "subscribe to t/#: url gopher://***@h/: want tcp, mqtt, ssl, tls, mqtts, ws or wss and a host, for example tcp://host:1883",
	} {
		if err := New(options(url, 5, 1)).Run(t.Context(), &runtest.Sink{}, func(error) {}); err == nil || err.Error() != want {
			t.Errorf("Run() = %v\nwant    %s", err, want)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a/b/c", false},
		{"a/b/c", "a/b", false},
		{"a/+/c", "a/b/c", true},
		{"a/+", "a/b/c", false},
		{"a/+", "a/", true},
		{"a/#", "a/b/c", true},
		{"a/#", "a", true},
		{"#", "a", true},
		{"+", "a", true},
		{"a", "b", false},
	} {
		if got := matches(tt.filter, tt.topic); got != tt.want {
			t.Errorf("matches(%q, %q) = %t, want %t", tt.filter, tt.topic, got, tt.want)
		}
	}
}
