package kafka

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

func fixture(c plan.KafkaBus) bustest.Fixture {
	return bustest.Fixture{
		New:     func(t testing.TB) bus.Bus { return connect(t, c) },
		AckWait: time.Second,
		PublishRaw: func(t testing.TB, topic string, data []byte) {
			p, err := sarama.NewSyncProducerFromClient(clientOf(t, c.KafkaAccess))
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			m := &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder("bustest"), Value: sarama.ByteEncoder(data)}
			if _, _, err := p.SendMessage(m); err != nil {
				t.Fatalf("produce to %s: %v", topic, err)
			}
		},
	}
}

// The passwords of two users that a broker of securedFixture has.
const (
	right      = "right-s3cret"
	otherRight = "other-s3cret"
)

// securedFixture is of a broker that speaks TLS, with a certificate of the authority, and lets in the users user and other by SCRAM-SHA-512.
func securedFixture(t testing.TB, base plan.KafkaBus, authority *servers.Authority) bustest.Fixture {
	addr := base.Brokers[0]
	if len(base.Brokers) > 1 {
		addr = "127.0.0.1:" // any of them
	}
	as := func(user, password string) plan.KafkaBus {
		c := base
		c.TLS = &plan.TLS{CACerts: authority.Cert}
		c.SASLMechanism, c.Username, c.Password = sarama.SASLTypeSCRAMSHA512, user, password
		return c
	}
	stranger := servers.NewAuthority(t).Cert
	f := fixture(as("user", right))
	f.Other = fixture(as("other", otherRight)).New
	for _, wrong := range []struct {
		name   string
		change func(*plan.KafkaBus)
		want   []string
	}{
		{"a wrong password", func(c *plan.KafkaBus) { c.Password = "mistaken" }, []string{addr, `user "user"`, "saslPasswordFrom"}},
		{"no user", func(c *plan.KafkaBus) { c.SASLMechanism = "" }, []string{addr, "authRequired"}},
		{"an unknown authority", func(c *plan.KafkaBus) { c.TLS.CACerts = stranger }, []string{addr, "authority that is not trusted", "tls.caCertFrom"}},
		{"no authority", func(c *plan.KafkaBus) { c.TLS.CACerts = "" }, []string{addr, "authority that is not trusted", "tls.caCertFrom"}},
		{"a certificate for another host", func(c *plan.KafkaBus) { c.TLS.ServerName = "elsewhere.example.com" }, []string{addr, "for another host", "tls.serverName"}},
		{"no TLS", func(c *plan.KafkaBus) { c.TLS = nil }, []string{addr, "set tls"}},
		{"an address where nobody listens", func(c *plan.KafkaBus) { c.Brokers = []string{"127.0.0.1:1"} }, []string{"127.0.0.1:1", "connection refused"}},
	} {
		c := as("user", right)
		wrong.change(&c)
		f.Refusals = append(f.Refusals, bustest.Refusal{
			Name: wrong.name, Want: append(wrong.want, "kafka "), Secret: c.Password,
			New: func(ctx context.Context, _ testing.TB) bus.Bus {
				return New(ctx, Options{Name: "EventBus default/default", Config: c, Instance: "test-0"})
			},
		})
	}
	return f
}

func TestConformance(t *testing.T) {
	t.Parallel() // it waits more than it works
	authority := servers.NewAuthority(t)
	b := startBroker(t, kfake.EnableSASL(), kfake.Superuser(sarama.SASLTypeSCRAMSHA512, "user", right), kfake.Superuser(sarama.SASLTypeSCRAMSHA512, "other", otherRight),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{authority.Server().Pair(t)}}))
	f := securedFixture(t, config(b.addr()), authority)
	f.Stop, f.Start = b.stop, b.start
	bustest.Run(t, f)
}
