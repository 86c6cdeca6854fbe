package embedded

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
)

// tlsTimeout is how many seconds a handshake may take: a machine may be busy.
const tlsTimeout = 10

// Access is who is let in: clients that know the password, and members of the cluster that show a certificate of the same authority.
type Access struct {
	Username, Password string
	// CACerts, Cert and Key are PEM: whom members trust, and what the server shows to both.
	CACerts, Cert, Key string
}

// apply lets clients in with the password, over TLS.
func (a *Access) apply(settings *server.Options) error {
	if a.Username == "" || a.Password == "" {
		return errors.New("the user name or the password is empty")
	}
	pair, err := a.pair()
	if err != nil {
		return err
	}
	settings.Username, settings.Password = a.Username, a.Password
	settings.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	settings.TLSTimeout = tlsTimeout
	return nil
}

// mutual is for the connections between members, of which each checks the other.
func (a *Access) mutual() (*tls.Config, error) {
	pair, err := a.pair()
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(a.CACerts)) {
		return nil, errors.New("the CA certificates hold no PEM certificate")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		RootCAs: roots, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}

func (a *Access) pair() (tls.Certificate, error) {
	pair, err := tls.X509KeyPair([]byte(a.Cert), []byte(a.Key))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	return pair, nil
}
