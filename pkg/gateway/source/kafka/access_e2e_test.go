//go:build e2e

package kafka

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/pkg/gateway/source/sourcetest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// outageTime is how long the broker of the conformance suite is away.
const outageTime = 20 * time.Second

func TestE2EConformance(t *testing.T) {
	k := servers.SecuredKafka(t)
	k.SetPassword("reader", "secret")
	access := plan.KafkaAccess{
		Brokers: []string{k.SASLSSL}, TLS: &plan.TLS{CACerts: k.Authority.Cert},
		SASLMechanism: "SCRAM-SHA-512", Username: "reader", Password: "secret",
	}
	f := fixture(access, func(_ testing.TB, topic string) { k.CreateTopic(topic, 3) },
		func(_ testing.TB, m ...*sarama.ProducerMessage) { k.Produce(m...) })
	f.Stop, f.Start = func(testing.TB) { k.Kill() }, func(testing.TB) { k.Start() }
	f.Persistent, f.Outage, f.MaxData = true, outageTime, 6<<20
	sourcetest.Run(t, f)
}

func TestE2EAccess(t *testing.T) {
	t.Parallel() // TestE2EConformance, which counts goroutines, is not
	k := servers.SecuredKafka(t)
	k.SetPassword("reader", "secret")
	tokens := servers.NewKafkaTokens(t, time.Hour)
	me, stranger := k.Authority.Client("me"), servers.NewAuthority(t)
	strangers := stranger.Client("me")
	trusting := &plan.TLS{CACerts: k.Authority.Cert}
	oauth := func(secret, scope string) *plan.OAuth {
		return &plan.OAuth{TokenURL: tokens.URL, ClientID: tokens.ClientID, ClientSecret: secret, Scopes: []string{scope}, CACerts: tokens.Cert}
	}
	plain := plan.KafkaAccess{SASLMechanism: "PLAIN", Username: servers.KafkaUser, Password: servers.KafkaPassword}
	scram256 := plan.KafkaAccess{SASLMechanism: "SCRAM-SHA-256", Username: "reader", Password: "secret"}
	scram512 := plan.KafkaAccess{SASLMechanism: "SCRAM-SHA-512", Username: "reader", Password: "secret"}
	bearer := plan.KafkaAccess{SASLMechanism: "OAUTHBEARER", OAuth: oauth(tokens.Secret, "kafka")}

	with := func(a plan.KafkaAccess, broker string, tls *plan.TLS, change func(*plan.KafkaAccess)) plan.KafkaAccess {
		a.Brokers, a.TLS = []string{broker}, tls
		if change != nil {
			change(&a)
		}
		return a
	}
	wrong := func(a *plan.KafkaAccess) { a.Password = sourcetest.WrongSecret }
	refuses := `the brokers refuse user "reader" or its password with SCRAM-SHA-512 (SASL_AUTHENTICATION_FAILED): correct saslUsername and saslPasswordFrom, or saslMechanism`
	tests := []struct {
		name   string
		access plan.KafkaAccess
		want   string // what ready says after "kafka HOST: "; empty: it is let in
	}{
		{"PLAIN", with(plain, k.SASL, nil, nil), ""},
		{"SCRAM-SHA-256", with(scram256, k.SASL, nil, nil), ""},
		{"SCRAM-SHA-512", with(scram512, k.SASL, nil, nil), ""},
		{"OAUTHBEARER", with(bearer, k.SASL, nil, nil), ""},
		{"PLAIN with TLS", with(plain, k.SASLSSL, trusting, nil), ""},
		{"SCRAM-SHA-512 with TLS", with(scram512, k.SASLSSL, trusting, nil), ""},
		{"OAUTHBEARER with TLS", with(bearer, k.SASLSSL, trusting, nil), ""},
		{"a client certificate", with(plan.KafkaAccess{}, k.SSL, &plan.TLS{CACerts: k.Authority.Cert, Cert: me.Cert, Key: me.Key}, nil), ""},

		{"wrong password, PLAIN", with(plain, k.SASL, nil, wrong), strings.NewReplacer("reader", servers.KafkaUser, "SCRAM-SHA-512", "PLAIN").Replace(refuses)},
		{"wrong password, SCRAM", with(scram512, k.SASLSSL, trusting, wrong), refuses},
		{"wrong user, SCRAM", with(scram512, k.SASL, nil, func(a *plan.KafkaAccess) { a.Username = "nobody" }), strings.Replace(refuses, "reader", "nobody", 1)},
		{
			"wrong client secret", with(plan.KafkaAccess{SASLMechanism: "OAUTHBEARER", OAuth: oauth(sourcetest.WrongSecret, "kafka")}, k.SASL, nil, nil),
			"no token from " + tokens.URL + ` (401 Unauthorized, "invalid_client"): correct saslOAuth.tokenURL, clientID, clientSecretFrom or scopes`,
		},
		{
			"wrong scope", with(plan.KafkaAccess{SASLMechanism: "OAUTHBEARER", OAuth: oauth(tokens.Secret, "other")}, k.SASL, nil, nil),
			"the brokers refuse the token of reader (SASL_AUTHENTICATION_FAILED): correct the scopes or audience that they want, or saslOAuth.tokenURL",
		},
		{
			"an authority that is not known", with(scram512, k.SASLSSL, &plan.TLS{CACerts: stranger.Cert}, nil),
			"the broker's certificate was signed by an authority that is not trusted: correct tls.caCertFrom",
		},
		{
			"a stranger's certificate", with(plan.KafkaAccess{}, k.SSL, &plan.TLS{CACerts: k.Authority.Cert, Cert: strangers.Cert, Key: strangers.Key}, nil),
			"the broker refuses the client certificate (",
		},
		{
			"no client certificate", with(plan.KafkaAccess{}, k.SSL, trusting, nil),
			"the broker wants a client certificate (",
		},
		{"plaintext on a TLS port", with(scram512, k.SASLSSL, nil, nil), "the broker speaks TLS, and we do not: set tls, or correct the port in brokers"},
		{"TLS on a plaintext port", with(scram512, k.SASL, trusting, nil), "the broker ends the connection in the TLS handshake: if it speaks no TLS, remove tls, or correct the port in brokers"},
		{"no user where one is wanted", with(plan.KafkaAccess{}, k.SASL, nil, nil), "the broker ends the connection without an answer: if it wants a user, set authRequired; if it is not a Kafka broker, correct brokers"},
		{
			"a user where none is wanted", with(scram512, k.Addr(), nil, nil),
			"the broker does not take SASL mechanism SCRAM-SHA-512 on this port: correct saslMechanism, or authRequired if it wants none",
		},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			topic := fmt.Sprint("access-", i)
			k.CreateTopic(topic, 1)
			o := options(topic, "")
			o.Source.Kafka.KafkaAccess = tt.access
			s := &runtest.Sink{}
			r := start(t, o, s)
			if tt.want == "" {
				r.AwaitReady(true)
				k.Produce(servers.KafkaRecord(topic, "", "let in"))
				s.Await(t, "let in")
				return
			}
			err := r.AwaitReady(false)
			if want := "kafka " + tt.access.Brokers[0] + ": " + tt.want; !strings.HasPrefix(err.Error(), want) {
				t.Errorf("ready(%v)\nwant  %s", err, want)
			}
		})
	}
}

// TestE2EKafkaRotation changes the password of a user while a topic is written to. The test plays the gateway: the changed Secret is a
// changed plan, for which one Source is stopped and another one started. At first the new one is too early.
func TestE2EKafkaRotation(t *testing.T) {
	t.Parallel()
	k := servers.SecuredKafka(t)
	k.SetPassword("reader", "secret-0")
	k.CreateTopic("rotation", 3)
	o := options("rotation", k.SASLSSL)
	o.Source.Kafka.KafkaAccess = plan.KafkaAccess{
		Brokers: []string{k.SASLSSL}, TLS: &plan.TLS{CACerts: k.Authority.Cert},
		SASLMechanism: "SCRAM-SHA-512", Username: "reader", Password: "secret-0",
	}
	s := &runtest.Sink{}
	r := start(t, o, s)
	r.AwaitReady(true)

	load := sourcetest.StartLoad(t, func(from, to int) { k.Produce(records("rotation", numbers(to)[from:])...) })
	for i := 1; i <= 3; i++ {
		before := s.Distinct()
		runtest.Eventually(t, "records are read", func() bool { return s.Distinct() > before+500 })
		load.Mark()
		r.End()
		changed := *o.Source.Kafka
		changed.Password = fmt.Sprint("secret-", i)
		o.Source.Kafka = &changed
		r = start(t, o, s)
		if err := r.AwaitReady(false); !strings.Contains(err.Error(), "saslPasswordFrom") {
			t.Errorf("ready(%v), want that the password is refused", err)
		}
		k.SetPassword("reader", changed.Password)
		r.AwaitReady(true)
		load.Mark()
	}
	produced := load.Stop()
	for got := s.Distinct(); got < produced; got = s.Distinct() { // however long that takes
		runtest.Eventually(t, fmt.Sprintf("more than %d of %d records", got, produced), func() bool { return s.Distinct() > got })
	}
	if got := s.Distinct(); got != produced {
		t.Errorf("%d records, want %d", got, produced)
	}
	t.Logf("%d records, 0 lost, %d repeated, 3 changes of the password", produced, len(s.Data())-produced)
}
