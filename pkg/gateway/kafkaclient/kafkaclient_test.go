package kafkaclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

func cluster(t *testing.T, opts ...kfake.Opt) string {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(1, "t")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()[0]
}

// connect asks the brokers for a topic.
func connect(t *testing.T, access plan.KafkaAccess, patience time.Duration) error {
	t.Helper()
	d := NewDialer(nil)
	t.Cleanup(d.Close)
	c, err := Config(access, "test", d)
	if err != nil {
		t.Fatal(err)
	}
	c.Metadata.Retry.Max = 0
	c.Net.Proxy.Dialer.(*transport).patience = patience
	client, err := sarama.NewClient(access.Brokers, c)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	return client.RefreshMetadata("t")
}

// answering listens and talks to all who connect.
func answering(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	return servers.NewStranger(t, "127.0.0.1:0", talk).Addr()
}

func TestConnects(t *testing.T) {
	ca := servers.NewAuthority(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca.Cert))
	secure := &tls.Config{Certificates: []tls.Certificate{ca.Server().Pair(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}
	me := ca.Client("me")
	mutual := &plan.TLS{CACerts: ca.Cert, Cert: me.Cert, Key: me.Key}
	for _, mechanism := range []string{"", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		for _, secured := range []bool{false, true} {
			t.Run(fmt.Sprintf("mechanism %q, TLS %t", mechanism, secured), func(t *testing.T) {
				var opts []kfake.Opt
				var access plan.KafkaAccess
				if mechanism != "" {
					opts = append(opts, kfake.EnableSASL(), kfake.Superuser(mechanism, "user", "secret"))
					access = plan.KafkaAccess{SASLMechanism: mechanism, Username: "user", Password: "secret"}
				}
				if secured {
					opts = append(opts, kfake.TLS(secure.Clone()))
					access.TLS = mutual
				}
				access.Brokers = []string{cluster(t, opts...)}
				if err := connect(t, access, answerTimeout); err != nil {
					t.Errorf("RefreshMetadata() = %v", err)
				}
			})
		}
	}
}

func TestExplain(t *testing.T) {
	ca, other := servers.NewAuthority(t), servers.NewAuthority(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca.Cert))
	secured := kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.Server().Pair(t)}})
	mutual := kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.Server().Pair(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots})
	named := kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.ServerOf("kafka.example").Pair(t)}})
	plain := answering(t, servers.Answer(""))                  // as Kafka does
	alerting := answering(t, servers.Answer(servers.TLSAlert)) // as Kafka does on a TLS port
	web, silent := answering(t, servers.Answer(servers.HTTP)), answering(t, servers.Silence)
	webWithTLS := answering(t, func(c net.Conn) {
		servers.Answer(servers.HTTP)(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{ca.Server().Pair(t)}}))
	})
	long := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	expired := kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.ServerAt(long.Add(-time.Hour), long).Pair(t)}})
	stranger := other.Client("me")
	trusting := plan.KafkaAccess{TLS: &plan.TLS{CACerts: ca.Cert}}

	tests := []struct {
		name   string
		broker string
		access plan.KafkaAccess
		want   string // after "kafka HOST: "
	}{
		{
			"a wrong password that is not called so", cluster(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "user", "secret")),
			plan.KafkaAccess{SASLMechanism: "SCRAM-SHA-512", Username: "user", Password: "wr0ng"},
			`the broker hangs up on user "user": correct saslUsername and saslPasswordFrom, or saslMechanism`,
		},
		{
			"an authority that is not known", cluster(t, secured), plan.KafkaAccess{TLS: &plan.TLS{CACerts: other.Cert}},
			"the broker's certificate was signed by an authority that is not trusted: correct tls.caCertFrom: no valid certificate of that authority is there",
		},
		{
			"another host's certificate", cluster(t, named), plan.KafkaAccess{TLS: &plan.TLS{CACerts: ca.Cert, ServerName: "other.example"}},
			"the broker's certificate is for another host (x509: certificate is valid for kafka.example, not other.example): " +
				"set tls.serverName, correct brokers or what they advertise, or give the broker a certificate for this one",
		},
		{
			"no client certificate", cluster(t, mutual), plan.KafkaAccess{TLS: &plan.TLS{CACerts: ca.Cert}},
			"the broker wants a client certificate (tls: certificate required): set tls.clientCertFrom and tls.clientKeyFrom",
		},
		{
			"a stranger's certificate", cluster(t, mutual),
			plan.KafkaAccess{TLS: &plan.TLS{CACerts: ca.Cert, Cert: stranger.Cert, Key: stranger.Key}},
			"the broker refuses the client certificate (tls: unknown certificate authority): correct tls.clientCertFrom and tls.clientKeyFrom",
		},
		{"an expired certificate", cluster(t, expired), trusting, "the broker's certificate expired at 2020-02-03T04:05:06Z: renew it there"},
		{
			"TLS on a plaintext port", plain, trusting,
			"the broker ends the connection in the TLS handshake: if it speaks no TLS, remove tls, or correct the port in brokers",
		},
		{"TLS on the port of a web server", web, trusting, "the broker speaks no TLS: remove tls, or correct the port in brokers"},
		{
			"TLS on a silent port", silent, trusting,
			"the broker does not answer the TLS handshake: if it speaks no TLS, remove tls, or correct the port in brokers",
		},
		{
			"plaintext on a TLS port", alerting, plan.KafkaAccess{},
			"the broker speaks TLS, and we do not: set tls, or correct the port in brokers",
		},
		{
			"plaintext on a port that hangs up", plain, plan.KafkaAccess{},
			"the broker ends the connection without an answer: if it wants TLS, set tls, or correct the port in brokers; if it wants a user, set authRequired; if it is not a Kafka broker, correct brokers",
		},
		{
			"a port that hangs up at once", answering(t, func(net.Conn) {}), plan.KafkaAccess{},
			"the broker ends the connection without an answer: if it wants TLS, set tls, or correct the port in brokers; if it wants a user, set authRequired; if it is not a Kafka broker, correct brokers",
		},
		{"a web server", web, plan.KafkaAccess{}, "what answers there is not a Kafka broker, it speaks HTTP: correct brokers"},
		{"a web server with TLS", webWithTLS, trusting, "what answers there is not a Kafka broker, it speaks HTTP: correct brokers"},
		{"a silent server", silent, plan.KafkaAccess{}, "what answers there says nothing: if it is not a Kafka broker, correct brokers"},
		{
			"an answer of 4 GiB", answering(t, servers.Answer("\xff\xff\xff\xff\x00\x00\x00\x00\x00")), plan.KafkaAccess{},
			"what answers there is not a Kafka broker: correct brokers",
		},
		{
			"an answer of less than nothing", answering(t, servers.Answer("\x00\x00\x00\x03\x00\x00\x00\x00\x00")), plan.KafkaAccess{},
			"what answers there is not a Kafka broker: correct brokers",
		},
		{
			"an answer that ends before its length", answering(t, servers.Answer("\x00")), plan.KafkaAccess{},
			"what answers there is not a Kafka broker: correct brokers",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.access.Brokers = []string{tt.broker}
			t.Parallel()
			patience := 3 * answerTimeout
			if tt.broker == silent {
				patience = 100 * time.Millisecond
			}
			cause := connect(t, tt.access, patience)
			err := Explain(cause, tt.access)
			if err == nil || err.Error() != "kafka "+tt.broker+": "+tt.want {
				t.Errorf("Explain(%v)\n= %v, want\n kafka %s: %s", cause, err, tt.broker, tt.want)
			}
			if !errors.Is(err, sarama.ErrOutOfBrokers) && !errors.Is(err, sarama.ErrSASLAuthenticationFailed) {
				t.Errorf("Explain(%v) does not wrap it", cause)
			}
		})
	}
	if err := Explain(nil, plan.KafkaAccess{}); err != nil {
		t.Errorf("Explain(nil) = %v, want nil", err)
	}
}

func TestExplainKeepsWhatItCannotExplain(t *testing.T) {
	nobody := servers.NewStranger(t, "127.0.0.1:0", servers.Silence)
	nobody.Close()
	access := plan.KafkaAccess{Brokers: []string{nobody.Addr()}}
	err := Explain(connect(t, access, answerTimeout), access)
	for _, want := range []string{"kafka " + nobody.Addr() + ": ", "connection refused", ": start the brokers, or correct brokers"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Explain() = %v, want %q in it", err, want)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("Explain() = %q, want one line", err)
	}
}

// The brokers are asked in any order. What is said of them stays the same.
func TestExplainNamesTheFirstBroker(t *testing.T) {
	access := plan.KafkaAccess{Brokers: []string{answering(t, servers.Answer(servers.HTTP)), answering(t, servers.Answer("")), answering(t, servers.Answer("SSH-2.0-x"))}}
	want := "kafka " + access.Brokers[0] + ": what answers there is not a Kafka broker, it speaks HTTP: correct brokers"
	for range 10 {
		if err := Explain(connect(t, access, answerTimeout), access); err.Error() != want {
			t.Fatalf("Explain() = %v, want %s", err, want)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	tests := []struct {
		name   string
		access plan.KafkaAccess
		want   string
	}{
		{"an unknown mechanism", plan.KafkaAccess{SASLMechanism: "GSSAPI"}, `SASL mechanism "GSSAPI"`},
		{"PLAIN without a user", plan.KafkaAccess{SASLMechanism: "PLAIN"}, "User must not be empty"},
		{"OAUTHBEARER without an endpoint", plan.KafkaAccess{SASLMechanism: "OAUTHBEARER"}, "where its tokens come from"},
		{"a CA certificate that is none", plan.KafkaAccess{TLS: &plan.TLS{CACerts: "x"}}, "hold no PEM certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDialer(nil)
			defer d.Close()
			if _, err := Config(tt.access, "", d); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Config() = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	var asked atomic.Int32
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "client" || password != "secret" || r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "a b" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error": "invalid_client", "error_description": "secret-of-the-server"}`)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		// The first one is used up at once, the second is not.
		n := asked.Add(1)
		_, _ = fmt.Fprintf(w, `{"access_token": "token-%d", "token_type": "Bearer", "expires_in": %d}`, n, 1+3600*(n-1))
	})
	ca := servers.NewAuthority(t)
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Server().Pair(t)}}
	server.StartTLS()
	defer server.Close()

	var dialed atomic.Int32
	d := NewDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		dialed.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	})
	defer d.Close()
	oauth := &plan.OAuth{TokenURL: server.URL, ClientID: "client", ClientSecret: "secret", Scopes: []string{"a", "b"}, CACerts: ca.Cert}
	source, err := newTokens(oauth, d)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"token-1", "token-2", "token-2"} {
		token, err := source.Token()
		if err != nil || token.Token != want {
			t.Fatalf("Token() = %v, %v the time %d, want %s", token, err, i+1, want)
		}
	}
	if dialed.Load() == 0 {
		t.Error("the endpoint was not dialed as it should")
	}

	wrong := *oauth
	wrong.ClientSecret = "wrong-secret"
	unknown := *oauth
	unknown.CACerts = ""
	for _, tt := range []struct {
		oauth *plan.OAuth
		want  string
	}{
		{&wrong, `no token from ` + server.URL + ` (401 Unauthorized, "invalid_client"): correct saslOAuth.tokenURL, clientID, clientSecretFrom or scopes`},
		{&unknown, `no token from ` + server.URL + ": the server's certificate was signed by an authority that is not trusted: set saslOAuth.caCertFrom to the certificate of that authority"},
	} {
		source, err := newTokens(tt.oauth, d)
		if err != nil {
			t.Fatal(err)
		}
		_, err = source.Token()
		err = Explain(err, plan.KafkaAccess{Brokers: []string{"b:1"}, SASLMechanism: "OAUTHBEARER", OAuth: tt.oauth})
		if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret-of") || strings.Contains(err.Error(), "wrong-secret") {
			t.Errorf("Token() = %v, want %q", err, tt.want)
		}
	}
}

func TestTokenRequestIsNotRedirected(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the secret was shown to another server") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	d := NewDialer(nil)
	defer d.Close()
	source, err := newTokens(&plan.OAuth{TokenURL: server.URL, ClientID: "client", ClientSecret: "secret"}, d)
	if err != nil {
		t.Fatal(err)
	}
	if token, err := source.Token(); err == nil {
		t.Errorf("Token() = %v, want an error", token)
	}
}

func TestCloseEndsConnections(t *testing.T) {
	address := answering(t, servers.Silence)
	d := NewDialer(nil)
	tr := &transport{Dialer: d, patience: answerTimeout}
	c, err := tr.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	d.Close()
	d.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read() = %v, want that the connection is closed", err)
	}
	if _, err := tr.Dial("tcp", address); err == nil {
		t.Error("Dial after Close = nil, want an error")
	}
}
