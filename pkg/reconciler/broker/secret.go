package broker

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/openfunction/events/pkg/reconciler/child"
)

// The keys of the Secret. Servers read the first five, and gateways get the first three in their plans.
const (
	keyUsername = "username"
	keyPassword = "password"
	keyCA       = "ca.crt" // the newest authority first, then those before it until they expire
	keyCert     = "tls.crt"
	keyKey      = "tls.key"
	keyCAKey    = "ca.key" // of the newest authority
)

// An authority is replaced long before it expires, and the next one signs its first certificate certLife - certRenew later: whoever connects
// has known it for weeks by then.
const (
	authorityLife  = 10 * 365 * 24 * time.Hour
	authorityRenew = 365 * 24 * time.Hour
	certLife       = 90 * 24 * time.Hour
	certRenew      = 30 * 24 * time.Hour
	// clockSkew is how far clocks of nodes may be apart.
	clockSkew = time.Hour
)

// fillSecret returns what adds to a Secret what is missing, and renews what expires.
func (s servers) fillSecret(now time.Time) func(*corev1.Secret) error {
	return func(o *corev1.Secret) error {
		child.FillMeta(o, s.labels(), s.bus)
		if o.Type == "" {
			o.Type = corev1.SecretTypeOpaque
		}
		if o.Data == nil {
			o.Data = map[string][]byte{}
		}
		if len(o.Data[keyUsername]) == 0 || len(o.Data[keyPassword]) == 0 {
			o.Data[keyUsername], o.Data[keyPassword] = []byte("openfunction"), []byte(rand.Text())
		}
		if err := s.renew(o.Data, now); err != nil {
			return fmt.Errorf("certificates of %s: %w", s.owned("Secret"), err)
		}
		return nil
	}
}

// renew sees to the authority and the certificate of the servers in data.
func (s servers) renew(data map[string][]byte, now time.Time) error {
	authorities := parse(data[keyCA], now)
	key, err := parseKey(data[keyCAKey])
	usable := err == nil && len(authorities) > 0 && signs(key, authorities[0])
	if !usable || authorities[0].NotAfter.Sub(now) < authorityRenew {
		if usable { // for the last time, so that the next authority need not sign today
			if err := s.issue(data, authorities[0], key, now); err != nil {
				return err
			}
		}
		newest, newKey, err := newAuthority(now)
		if err != nil {
			return err
		}
		if data[keyCAKey], err = encodeKey(newKey); err != nil {
			return err
		}
		authorities, key = append([]*x509.Certificate{newest}, authorities...), newKey
	}
	data[keyCA] = encode(authorities)
	if s.good(data, authorities, now) {
		return nil
	}
	return s.issue(data, authorities[0], key, now)
}

// good tells whether the certificate in data may stay.
func (s servers) good(data map[string][]byte, authorities []*x509.Certificate, now time.Time) bool {
	certs := parse(data[keyCert], now)
	key, err := parseKey(data[keyKey])
	if err != nil || len(certs) != 1 || !signs(key, certs[0]) || certs[0].NotAfter.Sub(now) < certRenew {
		return false
	}
	roots := x509.NewCertPool()
	for _, a := range authorities {
		roots.AddCert(a)
	}
	for _, name := range []string{s.place.member(0) + "." + s.place.domain(), s.place.domain()} {
		for _, usage := range usages {
			options := x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}
			if _, err := certs[0].Verify(options); err != nil {
				return false
			}
		}
	}
	return true
}

// usages: members of a cluster are each other's servers and clients.
var usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}

func newAuthority(now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		// Another name each time: who looks for the issuer of a certificate finds one.
		Subject:   pkix.Name{CommonName: "openfunction-events " + rand.Text()[:8]},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	cert, err := sign(template, template, key.Public(), key)
	return cert, key, err
}

// issue puts a new certificate of the servers into data.
func (s servers) issue(data map[string][]byte, authority *x509.Certificate, authorityKey crypto.Signer, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := sign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: s.place.Name},
		NotBefore: now.Add(-clockSkew), NotAfter: earlier(now.Add(certLife), authority.NotAfter),
		DNSNames: []string{s.place.domain(), "*." + s.place.domain()},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usages,
	}, authority, key.Public(), authorityKey)
	if err != nil {
		return err
	}
	if data[keyKey], err = encodeKey(key); err != nil {
		return err
	}
	data[keyCert] = encode([]*x509.Certificate{cert})
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// signs tells whether key is that of cert.
func signs(key crypto.Signer, cert *x509.Certificate) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// parse returns the certificates of text that have not expired. What is none is left out.
func parse(text []byte, now time.Time) []*x509.Certificate {
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && now.Before(cert.NotAfter) {
			all = append(all, cert)
		}
	}
	return all
}

func encode(certs []*x509.Certificate) []byte {
	var text []byte
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("a key that cannot sign")
	}
	return signer, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
