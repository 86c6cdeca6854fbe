// Package peer says who answers at an address, and why we and it do not trust each other.
package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/openfunction/events/pkg/plan"
)

// Peer is who a connection leads to, and what to correct when it is not the right one, or TLS does not come about.
type Peer struct {
	// Name is how it is called, and Kind what it should be: "the broker" and "a Kafka broker" for example.
	Name, Kind string
	// Address says what to do if it is something else.
	Address string
	// TLS is what the connection is secured with; nil means that it is not.
	TLS *plan.TLS
	// Authorities and Certificate are the fields of what TLS holds. An empty Certificate means that there can be none of ours.
	Authorities, Certificate string
	// Host says what to do about a certificate for another host, Plain about a peer that speaks no TLS, and Secure about one that does when
	// we do not. An empty Secure means that it would say so in its own way.
	Host, Plain, Secure string
}

// Untrusted returns a sentence that says why err, of a connection to p, keeps it from being secured and what to correct. It is nil for any
// other err. Its text is the same each time, and holds nothing of certificates but whom they are for and when.
func (p Peer) Untrusted(err error) error {
	var (
		unknown  x509.UnknownAuthorityError
		host     x509.HostnameError
		invalid  x509.CertificateInvalidError
		rejected *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		failed   *HandshakeError
	)
	switch {
	case errors.As(err, &unknown) && p.TLS != nil && p.TLS.CACerts != "":
		return fmt.Errorf("%s's certificate was signed by an authority that is not trusted: correct %s: no valid certificate of that authority is there", p.Name, p.Authorities)
	case errors.As(err, &unknown):
		return fmt.Errorf("%s's certificate was signed by an authority that is not trusted: set %s to the certificate of that authority", p.Name, p.Authorities)
	case errors.As(err, &host):
		return fmt.Errorf("%s's certificate is for another host (%w): %s, or give %s a certificate for this one", p.Name, host, p.Host, p.Name)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired: // its text has the time of day
		if from := invalid.Cert.NotBefore; time.Now().Before(from) {
			return fmt.Errorf("%s's certificate is not valid before %s: correct the clock here or there, or give %s another one", p.Name, stamp(from), p.Name)
		}
		return fmt.Errorf("%s's certificate expired at %s: renew it there", p.Name, stamp(invalid.Cert.NotAfter))
	case errors.As(err, &rejected):
		return fmt.Errorf("%s's certificate is not accepted (%w): give %s another one", p.Name, rejected.Err, p.Name)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return p.SpeaksNoTLS()
	}
	if alert := Alert(err); alert != "" {
		return p.Refuses(alert)
	}
	switch {
	case errors.As(err, &failed) && HungUp(err):
		return fmt.Errorf("%s ends the connection in the TLS handshake: if it speaks no TLS, %s", p.Name, p.Plain)
	case errors.As(err, &failed) && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s does not answer the TLS handshake: if it speaks no TLS, %s", p.Name, p.Plain)
	}
	return nil
}

// SpeaksNoTLS is the sentence for a peer that has said so in its own way.
func (p Peer) SpeaksNoTLS() error { return fmt.Errorf("%s speaks no TLS: %s", p.Name, p.Plain) }

// Refuses is the sentence for a peer that has ended TLS, with the reason that it gave.
func (p Peer) Refuses(alert string) error {
	ours, wanted := p.TLS != nil && p.TLS.Cert != "", strings.Contains(alert, "certificate")
	switch {
	case p.Certificate == "" && wanted:
		return fmt.Errorf("%s wants a client certificate (%s), and there is none to show: have it want none", p.Name, alert)
	case p.Certificate == "":
		return fmt.Errorf("%s ends TLS (%s): correct its TLS, or %s", p.Name, alert, p.Host)
	case ours && wanted:
		return fmt.Errorf("%s refuses the client certificate (%s): correct %s", p.Name, alert, p.Certificate)
	case ours:
		return fmt.Errorf("%s ends TLS (%s): if it does not take the client certificate, correct %s", p.Name, alert, p.Certificate)
	case wanted:
		return fmt.Errorf("%s wants a client certificate (%s): set %s", p.Name, alert, p.Certificate)
	}
	return fmt.Errorf("%s ends TLS (%s): if it wants a client certificate, set %s", p.Name, alert, p.Certificate)
}

// Alert returns the reason that the other side gave for an end of TLS, or "".
func Alert(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return op.Err.Error()
	}
	return ""
}

// HungUp tells whether err is that the other side ended the connection.
func HungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Handshake secures conn, which leads to address. An error is a *HandshakeError, and conn is closed then.
func Handshake(ctx context.Context, conn net.Conn, config *tls.Config, address string) (net.Conn, error) {
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host = address
		}
		config = config.Clone()
		config.ServerName = host
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, &HandshakeError{address, err}
	}
	return &reasoned{Conn: secured}, nil
}

type reasoned struct {
	*tls.Conn
	reading sync.Mutex
	ahead   []byte // what Write has read
}

// Read reads into b.
func (c *reasoned) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if len(c.ahead) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

// Write writes b. Where the other side has ended the connection, the reason that it gave before is the error: whoever only writes would not read it.
func (c *reasoned) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil && HungUp(err) {
		if reason := c.look(); Alert(reason) != "" {
			err = reason
		}
	}
	return n, err
}

// look returns what the next Read would fail with. If that would not fail, it has what was read here.
func (c *reasoned) look() error {
	c.reading.Lock()
	defer c.reading.Unlock()
	if len(c.ahead) > 0 {
		return nil
	}
	next := make([]byte, 1)
	n, err := c.Conn.Read(next)
	c.ahead = next[:n]
	return err
}

// HandshakeError is a connection that could not be secured.
type HandshakeError struct {
	Address string
	Err     error
}

// Error says where.
func (e *HandshakeError) Error() string {
	return "tls handshake with " + e.Address + ": " + e.Err.Error()
}

// Unwrap returns why.
func (e *HandshakeError) Unwrap() error { return e.Err }

// protocols are those that are known by how an answer begins. Who speaks TLS answers other words with an alert, if at all.
var protocols = []struct{ prefix, name string }{
	{"HTTP/", "HTTP"}, {alert, "TLS"}, {"INFO {", "NATS"}, {"SSH-", "SSH"}, {"-ERR ", "Redis"}, {"-NOAUTH ", "Redis"},
}

const alert = "\x15\x03"

// Stranger returns a sentence for a peer that answers, in the clear or within TLS, as none of its Kind does. An empty answer is silence.
func (p Peer) Stranger(answer []byte) error {
	if len(answer) == 0 {
		return fmt.Errorf("what answers there says nothing: if it is not %s, %s", p.Kind, p.Address)
	}
	if p.TLS == nil && p.Secure != "" && bytes.HasPrefix(answer, []byte(alert)) {
		return fmt.Errorf("%s speaks TLS, and we do not: %s", p.Name, p.Secure)
	}
	for _, known := range protocols {
		if bytes.HasPrefix(answer, []byte(known.prefix)) {
			return fmt.Errorf("what answers there is not %s, it speaks %s: %s", p.Kind, known.name, p.Address)
		}
	}
	return fmt.Errorf("what answers there is not %s: %s", p.Kind, p.Address)
}

// HangsUp returns a sentence for a peer that ends the connection instead of answering, which may have a reason of its Kind too.
func (p Peer) HangsUp(reasons ...string) error {
	var maybe []string
	switch {
	case p.TLS == nil:
		if p.Secure != "" {
			maybe = append(maybe, "if it wants TLS, "+p.Secure)
		}
	case p.Certificate == "":
	case p.TLS.Cert == "":
		maybe = append(maybe, "if it wants a client certificate, set "+p.Certificate)
	default:
		maybe = append(maybe, "if it does not take the client certificate, correct "+p.Certificate)
	}
	maybe = append(append(maybe, reasons...), "if it is not "+p.Kind+", "+p.Address)
	return fmt.Errorf("%s ends the connection without an answer: %s", p.Name, strings.Join(maybe, "; "))
}
