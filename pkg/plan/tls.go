package plan

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

var errCACerts = errors.New("the CA certificates hold no PEM certificate")

// Config returns what a connection is secured with: TLS 1.2 at least. It is nil for nil. Its errors hold nothing of the certificates and keys.
func (t *TLS) Config() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CACerts != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool() // a machine without any
		}
		if !roots.AppendCertsFromPEM([]byte(t.CACerts)) {
			return nil, errCACerts
		}
		c.RootCAs = roots
	}
	if t.Cert != "" || t.Key != "" {
		pair, err := tls.X509KeyPair([]byte(t.Cert), []byte(t.Key))
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// Untrusted returns the sentence for an err that is about the certificate of somebody, "the sink" for example, who is not trusted for it, and
// nil for any other. Authority and host say what to do about an authority that is not known, and about a certificate for another host.
func Untrusted(err error, somebody, authority, host string) error {
	var (
		unknown x509.UnknownAuthorityError
		other   x509.HostnameError
	)
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%s's certificate was signed by an authority that is not trusted: %s", somebody, authority)
	case errors.As(err, &other):
		return fmt.Errorf("%s's certificate is for another host (%w): %s, or give %s a certificate for this one", somebody, other, host, somebody)
	}
	return nil
}
