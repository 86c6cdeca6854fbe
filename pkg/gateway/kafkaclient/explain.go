package kafkaclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"github.com/IBM/sarama"
	"golang.org/x/oauth2"

	"github.com/openfunction/events/pkg/plan"
)

// Explain returns err as one sentence that says which brokers it is about. It is a *Refusal, which says what to correct, when access or
// the brokers' settings are to blame. It wraps err.
func Explain(err error, access plan.KafkaAccess) error {
	if err == nil {
		return nil
	}
	brokers := strings.Join(access.Brokers, ",")
	where, why, guess := brokers, "", false
	var handshake *handshakeError
	var hung *hangUp
	var token *tokenError
	switch {
	case errors.As(err, &token):
		why = token.explain()
	case errors.As(err, &handshake):
		where, why = handshake.address, handshake.explain()
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed):
		why = refused(access)
	case errors.As(err, &hung):
		where, why, guess = hung.address, hung.explain(access), !errors.Is(hung, errAlert)
	case isAlert(err):
		why = "the broker refuses the client's certificate (" + alertText(err) + "): correct tls.clientCertFrom and tls.clientKeyFrom"
	case access.SASLMechanism != "" && saslRefused(err):
		why = "the broker does not take SASL mechanism " + access.SASLMechanism + " on this port: correct saslMechanism, or authRequired if it wants none"
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed):
		why = who(access) + " may not use the topic (TOPIC_AUTHORIZATION_FAILED): allow it in the brokers' access control lists"
	case errors.Is(err, sarama.ErrGroupAuthorizationFailed):
		why = who(access) + " may not use the consumer group (GROUP_AUTHORIZATION_FAILED): allow it in the brokers' access control lists"
	case errors.Is(err, sarama.ErrClusterAuthorizationFailed):
		why = who(access) + " lacks rights on the cluster (CLUSTER_AUTHORIZATION_FAILED): allow it in the brokers' access control lists"
	default:
		return fmt.Errorf("kafka %s: %w%s", brokers, oneLine{err}, unreached(err))
	}
	return &Refusal{Guess: guess, text: "kafka " + where + ": " + why, err: err}
}

// Refusal is what trying again does not cure. Its text is the same each time.
type Refusal struct {
	// Guess says that the broker gave no reason: it may also be about to start or to end.
	Guess bool

	text string
	err  error
}

// Error is the sentence.
func (r *Refusal) Error() string { return r.text }

// Unwrap returns what was explained.
func (r *Refusal) Unwrap() error { return r.err }

// oneLine is an error without the line breaks that joined ones have.
type oneLine struct{ error }

func (o oneLine) Error() string {
	lines := strings.Split(o.error.Error(), "\n")
	seen := lines[:1]
	for _, line := range lines[1:] {
		if !strings.HasSuffix(seen[len(seen)-1], line) { // each attempt says the same
			seen = append(seen, line)
		}
	}
	return strings.Join(seen, "; ")
}

func (o oneLine) Unwrap() error { return o.error }

// saslRefused tells whether the broker did not want to talk SASL in this way. Sarama drops such an error, and says only that no
// broker is left.
func saslRefused(err error) bool {
	if errors.Is(err, sarama.ErrUnsupportedSASLMechanism) || errors.Is(err, sarama.ErrIllegalSASLState) {
		return true
	}
	return errors.Is(err, sarama.ErrOutOfBrokers) && errors.Unwrap(err) == nil
}

const correctUser = "correct saslUsername and saslPasswordFrom, or saslMechanism"

func refused(access plan.KafkaAccess) string {
	if access.SASLMechanism == sarama.SASLTypeOAuth {
		return "the brokers refuse the token of " + access.OAuth.ClientID + " (SASL_AUTHENTICATION_FAILED): correct the scopes or audience that they want, or saslOAuth.tokenURL"
	}
	return fmt.Sprintf("the brokers refuse user %q or its password with %s (SASL_AUTHENTICATION_FAILED): ", access.Username, access.SASLMechanism) + correctUser
}

func who(access plan.KafkaAccess) string {
	switch {
	case access.OAuth != nil:
		return "client " + access.OAuth.ClientID
	case access.Username != "":
		return fmt.Sprintf("user %q", access.Username)
	case access.TLS != nil && access.TLS.Cert != "":
		return "the client of this certificate"
	}
	return "an anonymous client"
}

// handshakeError is a connection that could not be secured.
type handshakeError struct {
	address string
	err     error
}

func (e *handshakeError) Error() string {
	return "tls handshake with " + e.address + ": " + e.err.Error()
}
func (e *handshakeError) Unwrap() error { return e.err }

func (e *handshakeError) explain() string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.As(e.err, &unknown):
		return "the server's certificate is of an authority that is not trusted: set tls.caCertFrom to its CA certificate"
	case errors.As(e.err, &name):
		return "the server's certificate is for another host (" + name.Error() + "): set tls.serverName, or correct brokers or what they advertise"
	case errors.As(e.err, &invalid):
		return "the server's certificate is not valid (" + invalid.Error() + "): renew it on the broker, or correct tls.caCertFrom"
	case isAlert(e.err):
		return "the broker refuses the TLS handshake (" + alertText(e.err) + "): correct tls.clientCertFrom and tls.clientKeyFrom if it wants a client certificate"
	case errors.As(e.err, &record), hungUp(e.err):
		return "the port does not talk TLS: remove tls, or correct the port in brokers"
	}
	return e.err.Error()
}

// isAlert tells whether the other side ended TLS with a reason.
func isAlert(err error) bool { return alertText(err) != "" }

func alertText(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return op.Err.Error()
	}
	return ""
}

// errAlert is a plaintext client that is told in TLS to go away. Sarama tries no other version after the end of a connection.
var errAlert = fmt.Errorf("the answer is a TLS alert: %w", io.ErrUnexpectedEOF)

// hangUp is a server that ended the connection instead of answering one of the first requests.
type hangUp struct {
	address  string
	requests int32
	secured  bool
	err      error
}

func (e *hangUp) Error() string {
	return fmt.Sprintf("%s hung up at request %d: %v", e.address, e.requests, e.err)
}
func (e *hangUp) Unwrap() error { return e.err }

// explain guesses. Brokers that are starting or dying hang up too, so it does not insist.
func (e *hangUp) explain(access plan.KafkaAccess) string {
	switch {
	case errors.Is(e.err, errAlert):
		return "the port talks TLS and the client does not: set tls, or correct the port in brokers"
	case e.requests > 2:
		return "the broker hangs up on user " + strconv.Quote(access.Username) + " (" + e.err.Error() + "): " + correctUser
	}
	what := "the broker hangs up without an answer (" + e.err.Error() + ")"
	switch {
	case e.requests == 1 && !e.secured:
		return what + ": if the port talks TLS, set tls"
	case access.SASLMechanism == "":
		return what + ": if it wants a user, set authRequired"
	}
	return what
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// tokenError is a token that was not given.
type tokenError struct {
	endpoint string
	err      error
}

func (e *tokenError) Error() string { return "token of " + e.endpoint + ": " + e.reason() }
func (e *tokenError) Unwrap() error { return e.err }

// reason leaves out the answer's text, which is the server's to choose, and the URL, which may hold a password.
func (e *tokenError) reason() string {
	var retrieve *oauth2.RetrieveError
	var request *url.Error
	switch {
	case errors.As(e.err, &retrieve) && retrieve.ErrorCode != "":
		return fmt.Sprintf("%s, %q", retrieve.Response.Status, retrieve.ErrorCode)
	case errors.As(e.err, &retrieve):
		return retrieve.Response.Status
	case errors.As(e.err, &request):
		return request.Err.Error()
	}
	return e.err.Error()
}

func (e *tokenError) explain() string {
	var retrieve *oauth2.RetrieveError
	var unknown x509.UnknownAuthorityError
	why := "no token from " + e.endpoint + " (" + e.reason() + ")"
	switch {
	case errors.As(e.err, &unknown):
		return why + ": set saslOAuth.caCertFrom to the CA certificate of the server"
	case errors.As(e.err, &retrieve):
		return why + ": correct saslOAuth.tokenURL, clientID, clientSecretFrom or scopes"
	}
	return why
}
