package kafkaclient

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/IBM/sarama"
	"golang.org/x/oauth2"

	"github.com/openfunction/events/pkg/gateway/peer"
	"github.com/openfunction/events/pkg/plan"
)

// Explain returns err as one sentence that says which brokers it is about. It is a *Refusal, which says what to correct, when access or
// the brokers' settings are to blame. It wraps err.
func Explain(err error, access plan.KafkaAccess) error {
	if err == nil {
		return nil
	}
	brokers := strings.Join(access.Brokers, ",")
	why := ""
	var token *tokenError
	refusal := first(err, access.Brokers)
	switch {
	case errors.As(err, &token):
		why = token.explain()
	case errors.Is(err, sarama.ErrSASLAuthenticationFailed):
		why = refused(access)
	case refusal != nil:
		return &Refusal{Guess: refusal.Guess, text: refusal.text, err: err}
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
	return &Refusal{text: "kafka " + brokers + ": " + why, err: err}
}

// first returns the refusal in err of the broker that is named first: sarama asks them in any order, and the sentence shall stay the same.
func first(err error, brokers []string) *Refusal {
	var found *Refusal
	var look func(error)
	look = func(err error) {
		if r, ok := err.(*Refusal); ok && (found == nil || rank(r, brokers) < rank(found, brokers)) {
			found = r
		}
		switch e := err.(type) {
		case interface{ Unwrap() []error }:
			for _, err := range e.Unwrap() {
				look(err)
			}
		case interface{ Unwrap() error }:
			look(e.Unwrap())
		}
	}
	look(err)
	return found
}

// rank is the position of the broker that refuses. Those that brokers advertise are last.
func rank(r *Refusal, brokers []string) int {
	if i := slices.Index(brokers, r.address); i >= 0 {
		return i
	}
	return len(brokers)
}

// Refusal is what trying again does not cure. Its text is the same each time.
type Refusal struct {
	// Guess says that the broker gave no reason: it may also be about to start or to end.
	Guess bool

	address string // of the broker; empty: any
	text    string
	err     error
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

// broker is who a connection leads to.
func broker(access plan.KafkaAccess) peer.Peer {
	return peer.Peer{
		Name: "the broker", Kind: "a Kafka broker", Address: "correct brokers", TLS: access.TLS,
		Authorities: "tls.caCertFrom", Certificate: "tls.clientCertFrom and tls.clientKeyFrom",
		Host:  "set tls.serverName, correct brokers or what they advertise",
		Plain: "remove tls, or correct the port in brokers", Secure: "set tls, or correct the port in brokers",
	}
}

// hangUp guesses why a broker ended a connection instead of answering one of the first requests. Brokers that are starting or dying do too.
func hangUp(access plan.KafkaAccess, requests int32) error {
	if requests > 2 {
		return fmt.Errorf("the broker hangs up on user %q: %s", access.Username, correctUser)
	}
	p := broker(access)
	if requests == 2 { // it has answered the first
		p.Secure, p.Certificate = "", ""
	}
	if access.SASLMechanism != "" {
		return p.HangsUp()
	}
	return p.HangsUp("if it wants a user, set authRequired")
}

// tokenError is a token that was not given.
type tokenError struct {
	endpoint    string
	authorities string // PEM
	err         error
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
	server := peer.Peer{
		Name: "the server", TLS: &plan.TLS{CACerts: e.authorities}, Authorities: "saslOAuth.caCertFrom", Host: "correct saslOAuth.tokenURL", Plain: "correct saslOAuth.tokenURL",
	}
	if untrusted := server.Untrusted(e.err); untrusted != nil {
		return "no token from " + e.endpoint + ": " + untrusted.Error()
	}
	why := "no token from " + e.endpoint + " (" + e.reason() + ")"
	if errors.As(e.err, &retrieve) {
		return why + ": correct saslOAuth.tokenURL, clientID, clientSecretFrom or scopes"
	}
	return why
}
