package servers

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
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority issues certificates that live as long as a test does.
type Authority struct {
	// Cert is its own certificate, PEM: what others trust it by.
	Cert string

	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Certificate is a certificate and its private key, both PEM; the key is PKCS #8, which Java reads too.
type Certificate struct{ Cert, Key string }

// NewAuthority returns an authority that nobody else knows.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t}
	a.key = newKey(t)
	template := certificate("authority of a test")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	a.cert, a.Cert = sign(t, template, template, a.key, a.key)
	return a
}

// Server returns a certificate of a server at 127.0.0.1 and at localhost.
func (a *Authority) Server() Certificate {
	a.t.Helper()
	return a.ServerOf("localhost")
}

// ServerOf returns a certificate of a server with this name, and of 127.0.0.1 if it is localhost.
func (a *Authority) ServerOf(name string) Certificate {
	a.t.Helper()
	return a.server(name, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
}

func (a *Authority) server(name string, from, to time.Time) Certificate {
	a.t.Helper()
	template := certificate(name)
	template.NotBefore, template.NotAfter, template.DNSNames = from, to, []string{name}
	if name == "localhost" {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return a.issue(template)
}

// ServerAt returns a certificate as Server does that is valid from one time to another.
func (a *Authority) ServerAt(from, to time.Time) Certificate {
	a.t.Helper()
	return a.server("localhost", from, to)
}

// Client returns a certificate that a client shows; name is its common name.
func (a *Authority) Client(name string) Certificate {
	a.t.Helper()
	template := certificate(name)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(template)
}

// ClientAt returns a certificate for clients only, which a server at address shows by mistake.
func (a *Authority) ClientAt(address string) Certificate {
	a.t.Helper()
	template := certificate("client")
	template.IPAddresses, template.ExtKeyUsage = []net.IP{net.ParseIP(address)}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(template)
}

// Pair is the certificate as Go's TLS takes it.
func (c Certificate) Pair(t testing.TB) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(c.Cert), []byte(c.Key))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func (a *Authority) issue(template *x509.Certificate) Certificate {
	a.t.Helper()
	key := newKey(a.t)
	_, cert := sign(a.t, template, a.cert, key, a.key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return Certificate{Cert: cert, Key: encode("PRIVATE KEY", der)}
}

func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, of, by *ecdsa.PrivateKey) (*x509.Certificate, string) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &of.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, encode("CERTIFICATE", der)
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// WriteFiles writes files, by name, that are gone when the test has ended, and returns where each of them is.
func WriteFiles(t testing.TB, files map[string]string) (at func(name string) string) {
	t.Helper()
	dir := t.TempDir()
	at = func(name string) string { return filepath.Join(dir, name) }
	for name, content := range files {
		if err := os.WriteFile(at(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return at
}
