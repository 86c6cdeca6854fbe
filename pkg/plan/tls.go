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
