package peer_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/gateway/peer"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

const deadline = 30 * time.Second

// connect shakes hands with who answers at address and waits for a byte: whether TLS 1.3 takes the certificate of a client is known then.
func connect(t *testing.T, address string, with *plan.TLS, patience time.Duration) error {
	t.Helper()
	config, err := with.Config()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	secured, err := peer.Handshake(ctx, conn, config, address)
	if err != nil {
		return err
	}
	_ = secured.SetReadDeadline(time.Now().Add(deadline))
	_, err = secured.Read(make([]byte, 1))
	return err
}

// secured is a server of TLS that says one byte.
func secured(t *testing.T, config *tls.Config) *servers.Stranger {
	return servers.NewStranger(t, "127.0.0.1:0", func(c net.Conn) {
		if s := tls.Server(c, config); s.Handshake() == nil {
			_, _ = s.Write([]byte("x"))
			servers.Silence(s)
		}
		servers.Silence(c) // what is closed with something unread is reset, and the alert lost
	})
}

func TestUntrusted(t *testing.T) {
	ours, other := servers.NewAuthority(t), servers.NewAuthority(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ours.Cert))
	with := func(c servers.Certificate) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{c.Pair(t)}}
	}
	mutual, older := with(ours.Server()), with(ours.Server())
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, roots
	older.ClientAuth, older.ClientCAs, older.MaxVersion = mutual.ClientAuth, roots, tls.VersionTLS12
	foreign := with(ours.Server())
	foreign.CipherSuites, foreign.MaxVersion = []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}, tls.VersionTLS12
	talk := func(talk func(net.Conn)) *servers.Stranger { return servers.NewStranger(t, "127.0.0.1:0", talk) }

	mine, strangers := ours.Client("me"), other.Client("me")
	trusting := &plan.TLS{CACerts: ours.Cert}
	shown := &plan.TLS{CACerts: ours.Cert, Cert: mine.Cert, Key: mine.Key}
	forged := &plan.TLS{CACerts: ours.Cert, Cert: strangers.Cert, Key: strangers.Key}
	day, early := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC), time.Date(2120, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, tt := range []struct {
		name   string
		server *servers.Stranger
		tls    *plan.TLS
		want   string // empty: they trust each other
	}{
		{"trusted", secured(t, with(ours.Server())), trusting, ""},
		{"both show a certificate", secured(t, mutual), shown, ""},
		{"no authority", secured(t, with(ours.Server())), &plan.TLS{}, "the server's certificate was signed by an authority that is not trusted: set caCertFrom to the certificate of that authority"},
		{"another authority", secured(t, with(ours.Server())), &plan.TLS{CACerts: other.Cert},
			"the server's certificate was signed by an authority that is not trusted: correct caCertFrom: no valid certificate of that authority is there"},
		{"another host", secured(t, with(ours.ServerOf("elsewhere.example"))), &plan.TLS{CACerts: ours.Cert, ServerName: "here.example"},
			"the server's certificate is for another host (x509: certificate is valid for elsewhere.example, not here.example): set serverName, or give the server a certificate for this one"},
		{"an expired certificate", secured(t, with(ours.ServerAt(day.Add(-time.Hour), day))), trusting, "the server's certificate expired at 2020-02-03T04:05:06Z: renew it there"},
		{"a certificate of the future", secured(t, with(ours.ServerAt(early, early.Add(time.Hour)))), trusting,
			"the server's certificate is not valid before 2120-02-03T04:05:06Z: correct the clock here or there, or give the server another one"},
		{"the certificate of a client", secured(t, with(ours.ClientAt("127.0.0.1"))), trusting,
			"the server's certificate is not accepted (x509: certificate specifies an incompatible key usage): give the server another one"},
		{"no client certificate", secured(t, mutual), trusting, "the server wants a client certificate (tls: certificate required): set clientCertFrom"},
		{"no client certificate with TLS 1.2", secured(t, older), trusting, "the server ends TLS (tls: handshake failure): if it wants a client certificate, set clientCertFrom"},
		{"a client certificate of an unknown authority", secured(t, mutual), forged, "the server refuses the client certificate (tls: unknown certificate authority): correct clientCertFrom"},
		{"no way of TLS in common", secured(t, foreign), trusting, "the server ends TLS (tls: handshake failure): if it wants a client certificate, set clientCertFrom"},
		{"no way of TLS in common, with a client certificate", secured(t, foreign), shown,
			"the server ends TLS (tls: handshake failure): if it does not take the client certificate, correct clientCertFrom"},
		{"a web server", talk(servers.Answer(servers.HTTP)), trusting, "the server speaks no TLS: unset tls"},
		{"a server that hangs up", talk(func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }), trusting, "the server ends the connection in the TLS handshake: if it speaks no TLS, unset tls"},
		{"a server that hangs up at once", talk(func(net.Conn) {}), trusting, "the server ends the connection in the TLS handshake: if it speaks no TLS, unset tls"},
		{"a silent server", talk(servers.Silence), trusting, "the server does not answer the TLS handshake: if it speaks no TLS, unset tls"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			patience := deadline
			if strings.Contains(tt.want, "does not answer") {
				patience = 100 * time.Millisecond
			}
			p := peer.Peer{Name: "the server", TLS: tt.tls, Authorities: "caCertFrom", Certificate: "clientCertFrom", Host: "set serverName", Plain: "unset tls"}
			err := connect(t, tt.server.Addr(), tt.tls, patience)
			got := ""
			if explained := p.Untrusted(fmt.Errorf("ask: %w", err)); explained != nil {
				got = explained.Error()
			}
			if got != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("Untrusted(%v)\n= %s\nwant %s", err, got, tt.want)
			}
		})
	}
}

func TestUntrustedWithoutAClientCertificate(t *testing.T) {
	ours := servers.NewAuthority(t)
	mutual := &tls.Config{Certificates: []tls.Certificate{ours.Server().Pair(t)}, ClientAuth: tls.RequireAnyClientCert}
	trusting := &plan.TLS{CACerts: ours.Cert}
	err := connect(t, secured(t, mutual).Addr(), trusting, deadline)
	want := "the sink wants a client certificate (tls: certificate required), and there is none to show: have it want none"
	if got := (peer.Peer{Name: "the sink", TLS: trusting}).Untrusted(err); got == nil || got.Error() != want {
		t.Errorf("Untrusted(%v) = %v, want %s", err, got, want)
	}
}

// A server that refuses a client's certificate hangs up while the client, whose handshake is over, is writing already.
func TestAWriteHasTheReason(t *testing.T) {
	ours := servers.NewAuthority(t)
	mutual := &tls.Config{Certificates: []tls.Certificate{ours.Server().Pair(t)}, ClientAuth: tls.RequireAnyClientCert}
	server := servers.NewStranger(t, "127.0.0.1:0", func(c net.Conn) { _ = tls.Server(c, mutual).Handshake() })
	config, err := (&plan.TLS{CACerts: ours.Cert}).Config()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	secured, err := peer.Handshake(t.Context(), conn, config, server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(deadline); err == nil && time.Now().Before(end); {
		_, err = secured.Write([]byte("x"))
	}
	if got, want := peer.Alert(err), "tls: certificate required"; got != want {
		t.Errorf("Write() = %v, want the alert %q", err, want)
	}
}

// broken is a connection that can be read, and no more written once it is told.
type broken struct {
	net.Conn
	told bool
}

func (c *broken) Write(b []byte) (int, error) {
	if c.told {
		return 0, syscall.EPIPE
	}
	return c.Conn.Write(b)
}

// A server may say something, and in no alert, before it hangs up: a look for an alert takes nothing of it.
func TestAWriteLeavesWhatThePeerSaid(t *testing.T) {
	ours := servers.NewAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{ours.Server().Pair(t)}}
	server := servers.NewStranger(t, "127.0.0.1:0", func(c net.Conn) {
		if s := tls.Server(c, config); s.Handshake() == nil {
			_, _ = s.Write([]byte(servers.HTTP))
			_ = s.CloseWrite()
			servers.Silence(s)
		}
	})
	trusting, err := (&plan.TLS{CACerts: ours.Cert}).Config()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := net.Dial("tcp", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	conn := &broken{Conn: raw}
	defer conn.Close()
	secured, err := peer.Handshake(t.Context(), conn, trusting, server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_ = secured.SetReadDeadline(time.Now().Add(deadline))
	conn.told = true
	for range 2 {
		if _, err := secured.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("Write() = %v, want %v", err, syscall.EPIPE)
		}
	}
	if got, err := io.ReadAll(secured); string(got) != servers.HTTP || err != nil {
		t.Errorf("it said %q, %v, want %q", got, err, servers.HTTP)
	}
}

func TestOtherErrorsAreNotOfTrust(t *testing.T) {
	for _, err := range []error{
		io.EOF, context.DeadlineExceeded, errors.New("x509: certificate signed by unknown authority"),
		&net.OpError{Op: "read", Err: errors.New("tls: bad certificate")},
	} {
		if got := (peer.Peer{}).Untrusted(err); got != nil {
			t.Errorf("Untrusted(%v) = %v, want nil", err, got)
		}
	}
}

func TestStranger(t *testing.T) {
	p := peer.Peer{Name: "the broker", Kind: "a Kafka broker", Address: "correct brokers", Secure: "set tls"}
	for answer, want := range map[string]string{
		servers.HTTP:      "what answers there is not a Kafka broker, it speaks HTTP: correct brokers",
		servers.TLSAlert:  "the broker speaks TLS, and we do not: set tls",
		"INFO {":          "what answers there is not a Kafka broker, it speaks NATS: correct brokers",
		"SSH-2.0-OpenSSH": "what answers there is not a Kafka broker, it speaks SSH: correct brokers",
		"-ERR unknown":    "what answers there is not a Kafka broker, it speaks Redis: correct brokers",
		"\x00":            "what answers there is not a Kafka broker: correct brokers",
		"":                "what answers there says nothing: if it is not a Kafka broker, correct brokers",
	} {
		if got := p.Stranger([]byte(answer)).Error(); got != want {
			t.Errorf("Stranger(%.20q) = %s, want %s", answer, got, want)
		}
	}
	p.TLS = &plan.TLS{}
	if got, want := p.Stranger([]byte(servers.TLSAlert)).Error(), "what answers there is not a Kafka broker, it speaks TLS: correct brokers"; got != want {
		t.Errorf("Stranger of TLS within TLS = %s, want %s", got, want)
	}
}

func TestHangsUp(t *testing.T) {
	p := peer.Peer{Name: "the server", Kind: "an MQTT server", Address: "correct url", Secure: "set tls", Certificate: "clientCertFrom"}
	bare := peer.Peer{Name: "the server", Kind: "a NATS server", Address: "correct url"}
	secured := func(p peer.Peer, with plan.TLS) peer.Peer { p.TLS = &with; return p }
	for _, tt := range []struct {
		peer    peer.Peer
		reasons []string
		want    string
	}{
		{p, nil, "if it wants TLS, set tls; if it is not an MQTT server, correct url"},
		{p, []string{"if it is old, renew it"}, "if it wants TLS, set tls; if it is old, renew it; if it is not an MQTT server, correct url"},
		{secured(p, plan.TLS{}), nil, "if it wants a client certificate, set clientCertFrom; if it is not an MQTT server, correct url"},
		{secured(p, plan.TLS{Cert: "ours"}), nil, "if it does not take the client certificate, correct clientCertFrom; if it is not an MQTT server, correct url"},
		{bare, nil, "if it is not a NATS server, correct url"},
		{secured(bare, plan.TLS{}), nil, "if it is not a NATS server, correct url"},
	} {
		if got, want := tt.peer.HangsUp(tt.reasons...).Error(), "the server ends the connection without an answer: "+tt.want; got != want {
			t.Errorf("HangsUp(%q) = %s, want %s", tt.reasons, got, want)
		}
	}
}
