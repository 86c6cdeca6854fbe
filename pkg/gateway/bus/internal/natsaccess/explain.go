package natsaccess

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/openfunction/events/pkg/gateway/peer"
	"github.com/openfunction/events/pkg/plan"
)

// Explain returns err, of a connection to one of urls with a, as a sentence that says why the server and we do not trust each other, and
// what to do. It returns nil if err says something else.
func Explain(a plan.NATSAccess, urls string, err error) error {
	if explained := refused(a, urls, err); explained != nil {
		return explained
	}
	return untrusted(a, err)
}

// refused says why the server does not let us in; nil if that is not the reason.
func refused(a plan.NATSAccess, urls string, err error) error {
	who, cure := identity(a, urls)
	switch {
	case errors.Is(err, nats.ErrAuthorization):
		return fmt.Errorf("the server refuses %s (Authorization Violation): %s", who, cure)
	case errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAccountAuthExpired):
		return fmt.Errorf("the server refuses %s, whose time is over (%s): %s", who, words(err), cure)
	case errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf("the server refuses %s, which was revoked (%s): %s", who, words(err), cure)
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return fmt.Errorf("the server does not know nkeys: add the user %s to its configuration, or use another way than nkeySeedFrom", who)
	}
	return nil
}

// identity says as whom we come, and what to correct if that is wrong.
func identity(a plan.NATSAccess, urls string) (who, cure string) {
	switch {
	case strings.Contains(urls, "@"): // it counts before the others
		return "the user, password or token in the URL", "correct the URL"
	case a.Credentials != "":
		return "the credentials file", "correct the value of credentialsFrom"
	case a.NKeySeed != "":
		who = "the nkey"
		if pair, err := seed(a.NKeySeed); err == nil {
			if public, err := pair.PublicKey(); err == nil {
				who = "the nkey " + public
			}
		}
		return who, "add it to the server's users, or correct the value of nkeySeedFrom"
	case a.Token != "":
		return "the token", "correct the value of tokenFrom"
	case a.Username != "" || a.Password != "":
		return fmt.Sprintf("the user %q or the password", a.Username), "correct username and the value of passwordFrom"
	}
	return "who comes without credentials", "set usernameFrom and passwordFrom, tokenFrom, credentialsFrom or nkeySeedFrom"
}

// untrusted says why the connection cannot be secured; nil if that is not the reason.
func untrusted(a plan.NATSAccess, err error) error {
	p := peer.Peer{
		Name: "the server", TLS: a.TLS, Authorities: "tls.caCertFrom", Certificate: "tls.clientCertFrom and tls.clientKeyFrom",
		Host:  "correct the URL, set tls.serverName to a name in the certificate",
		Plain: "switch it on there, or remove tls from the bus and write nats:// for tls:// in its URL",
	}
	if errors.Is(err, nats.ErrSecureConnWanted) {
		return p.SpeaksNoTLS()
	}
	if strings.Contains(err.Error(), "closed by remote after TLS handshake") { // with TLS 1.3 we may write before we read that it refuses us
		return p.Refuses("it ends the connection, as one does that wants another certificate")
	}
	return p.Untrusted(err)
}

func words(err error) string { return strings.TrimPrefix(err.Error(), "nats: ") }
