package plan

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// tls returns how a connection is secured, nil when s is.
func (r *reader) tls(path string, s *v1alpha1.TLSSpec) *TLS {
	if s == nil {
		return nil
	}
	return r.checked(path, &TLS{
		CACerts:    r.secret(path+".caCertFrom", s.CACertFrom, s.CACert),
		Cert:       r.secret(path+".clientCertFrom", s.ClientCertFrom, s.ClientCert),
		Key:        r.secret(path+".clientKeyFrom", s.ClientKeyFrom, nil),
		ServerName: s.ServerName,
	}, s.CACertFrom, s.ClientCertFrom, s.ClientKeyFrom)
}

// checked tells at once what every attempt to connect would say. The CA certificates come from ca, and from client come the client's
// certificate and key; nil is the object itself.
func (r *reader) checked(path string, t *TLS, ca *v1alpha1.SecretKeyRef, client ...*v1alpha1.SecretKeyRef) *TLS {
	_, err := t.Config()
	if err == nil || r.failed != "" {
		return t
	}
	from := client
	if errors.Is(err, errCACerts) {
		from = []*v1alpha1.SecretKeyRef{ca}
	}
	var where []string
	for _, ref := range from {
		if ref != nil {
			where = append(where, fmt.Sprintf("key %q of Secret %s/%s", ref.Key, cmp.Or(r.o.namespace, SystemNamespace), ref.Name))
		}
	}
	if len(where) == 0 {
		r.problem(path, ReasonInvalid, "%v: correct it", err)
		return t
	}
	r.problem(path, ReasonSecretInvalid, "%v: correct %s", err, strings.Join(where, " or "))
	return t
}

func (r *reader) nats(path string, s *v1alpha1.NATSAccessSpec) NATSAccess {
	return NATSAccess{
		Username:    r.secret(path+".usernameFrom", s.UsernameFrom, s.Username),
		Password:    r.secret(path+".passwordFrom", s.PasswordFrom, nil),
		Token:       r.secret(path+".tokenFrom", s.TokenFrom, nil),
		Credentials: r.secret(path+".credentialsFrom", s.CredentialsFrom, nil),
		NKeySeed:    r.secret(path+".nkeySeedFrom", s.NKeySeedFrom, nil),
		TLS:         r.tls(path+".tls", s.TLS),
	}
}

// kafkaAccess is what KafkaSpec and KafkaBusSpec have in common.
type kafkaAccess struct {
	brokers                    string
	required                   bool
	mechanism                  string
	username, password         *string
	usernameFrom, passwordFrom *v1alpha1.SecretKeyRef
	oauth                      *v1alpha1.OAuthSpec
	tls                        *v1alpha1.TLSSpec
}

func (r *reader) kafka(path string, s kafkaAccess) KafkaAccess {
	brokers, err := v1alpha1.ParseBrokers(s.brokers, "9092")
	if err != nil {
		r.problem(path+".brokers", ReasonInvalid, "%v", err)
	}
	a := KafkaAccess{Brokers: brokers, TLS: r.tls(path+".tls", s.tls)}
	switch {
	case !s.required:
	case s.oauth != nil:
		a.SASLMechanism = v1alpha1.MechanismOAuth
		a.OAuth = r.oauth(path+".saslOAuth", s.oauth)
	default:
		a.SASLMechanism = cmp.Or(s.mechanism, "PLAIN")
		a.Username = r.secret(path+".saslUsernameFrom", s.usernameFrom, s.username)
		a.Password = r.secret(path+".saslPasswordFrom", s.passwordFrom, s.password)
	}
	return a
}

func (r *reader) oauth(path string, s *v1alpha1.OAuthSpec) *OAuth {
	return &OAuth{
		TokenURL: s.TokenURL, ClientID: s.ClientID, Scopes: s.Scopes,
		ClientSecret: r.secret(path+".clientSecretFrom", s.ClientSecretFrom, nil),
		CACerts:      r.checked(path, &TLS{CACerts: r.secret(path+".caCertFrom", s.CACertFrom, s.CACert)}, s.CACertFrom).CACerts,
	}
}

// secrets returns the lines of a secret that a person who posts may show; all are good.
func (r *reader) secrets(path string, ref *v1alpha1.SecretKeyRef) []string {
	var lines []string
	for line := range strings.Lines(r.secret(path, ref, nil)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}
