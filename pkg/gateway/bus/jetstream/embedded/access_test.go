package embedded

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// newAccess returns an access with a certificate of 127.0.0.1 that is its own authority.
func newAccess(t testing.TB, password string) *Access {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a := &Access{Username: "user", Password: password}
	a.Cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	a.Key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	a.CACerts = a.Cert
	return a
}

// connect tries once to connect as a says.
func connect(t testing.TB, s *Server, a *Access) error {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(a.CACerts))
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo(a.Username, a.Password), nats.Secure(&tls.Config{RootCAs: roots}), nats.NoReconnect())
	if err == nil {
		nc.Close()
	}
	return err
}

func TestAChangedAccessCountsAtOnce(t *testing.T) {
	before, after := newAccess(t, "before"), newAccess(t, "after")
	s, err := Start(Options{Dir: t.TempDir(), Host: "127.0.0.1", SyncInterval: time.Minute, Access: before})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.SetAccess(*after); err != nil {
		t.Fatal(err)
	}
	if err := connect(t, s, after); err != nil {
		t.Errorf("with the new password and certificate: %v, want to be let in", err)
	}
	if err := connect(t, s, before); err == nil {
		t.Error("with the old password and certificate: let in")
	}
	if err := s.SetAccess(Access{Username: "user", Password: "x", CACerts: "x", Cert: "x", Key: "x"}); err == nil {
		t.Error("SetAccess of something that is no certificate = nil, want an error")
	}
	if err := connect(t, s, after); err != nil {
		t.Errorf("after an access that cannot be: %v, want the one before", err)
	}
}

func TestAMemberNeedsACertificate(t *testing.T) {
	_, err := Start(Options{Dir: t.TempDir(), Host: "127.0.0.1", Cluster: &Cluster{Name: "c", Host: "127.0.0.1"}})
	if err == nil || !strings.Contains(err.Error(), "needs a certificate") {
		t.Errorf("Start() = %v, want that it needs a certificate", err)
	}
}

func TestDrained(t *testing.T) {
	s, err := Start(Options{Dir: t.TempDir(), Host: "127.0.0.1", SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("Ready() = %v, want nil", err)
	}
	s.Drain()
	if err := s.Ready(); err == nil || s.running.Load().Running() {
		t.Errorf("after Drain, Ready() = %v and Running() = %v, want neither", err, s.running.Load().Running())
	}
	if err := s.Alive(); err != nil {
		t.Errorf("after Drain, Alive() = %v, want nil: nobody is to start it again", err)
	}
}
