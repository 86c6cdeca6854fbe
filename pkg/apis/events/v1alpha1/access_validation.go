package v1alpha1

import (
	"net/url"
	"strings"
)

// validate checks how a connection is secured; nil is not at all.
func (s *TLSSpec) validate(r report) {
	if s == nil {
		return
	}
	r.tls(s.CACert, s.CACertFrom, s.ClientCert, s.ClientCertFrom, r.secret("clientKey", nil, s.ClientKeyFrom))
	if strings.ContainsAny(s.ServerName, " /:") {
		r.field("serverName").errorf("%q is not a host: write the name that is in the server's certificate", s.ServerName)
	}
}

// tls checks the certificates of a connection. key says that there is a private key.
func (r report) tls(ca *string, caFrom *SecretKeyRef, cert *string, certFrom *SecretKeyRef, key bool) {
	r.authorities(ca, caFrom)
	switch has := r.secret("clientCert", cert, certFrom); {
	case has && !key:
		r.field("clientKeyFrom").errorf("is empty, but there is a client certificate: name the Secret and key that hold its private key")
	case key && !has:
		r.field("clientCert").errorf("is empty, but there is a client key: set the certificate that belongs to it")
	}
	if cert != nil && *cert != "" {
		r.field("clientCert").certificates(*cert)
	}
}

// authorities checks the certificates to trust.
func (r report) authorities(ca *string, from *SecretKeyRef) {
	r.secret("caCert", ca, from)
	if ca != nil && *ca != "" {
		r.field("caCert").certificates(*ca)
	}
}

// requiredSecret checks a value that only a Secret can hold.
func (r report) requiredSecret(name string, from *SecretKeyRef, what string) {
	if !r.secret(name, nil, from) {
		r.field(name+"From").errorf("is empty: name the Secret and key that hold %s", what)
	}
}

// httpsURL checks the address of a server that is asked over TLS only.
func (r report) httpsURL(address, example string) {
	if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Hostname() == "" {
		r.errorf("%q is not an https URL: write for example %s", withoutSecrets(address), example)
	}
}

// validate checks how a server is logged in to whose addresses are in a field beside s. What the addresses hold wins over s.
func (s *NATSAccessSpec) validate(r report, field, addresses string) {
	switch user, password := userOf(addresses); {
	case password:
		r.field(field).warnf("holds a password in plain text, which anyone who may read this object can see: use username and passwordFrom")
	case user:
		r.field(field).warnf("holds a token in plain text, which anyone who may read this object can see: use tokenFrom")
	}
	user := r.secret("username", s.Username, s.UsernameFrom)
	password := r.secret("password", nil, s.PasswordFrom)
	var ways []string
	if user || password {
		ways = append(ways, "a user name or password")
	}
	for _, way := range []struct {
		name string
		from *SecretKeyRef
	}{{"token", s.TokenFrom}, {"credentials", s.CredentialsFrom}, {"nkeySeed", s.NKeySeedFrom}} {
		if !r.secret(way.name, nil, way.from) {
			continue
		}
		if len(ways) > 0 {
			r.field(way.name+"From").errorf("is set, and so is %s: a server wants one or the other", ways[0])
		}
		ways = append(ways, way.name+"From")
	}
	switch {
	case password && !user:
		r.field("username").errorf("is empty, but passwordFrom is set: set the user name that the password is for")
	case user && !password:
		r.field("passwordFrom").errorf("is empty, but username is set: name the Secret and key that hold the password")
	}
	if inURL, _ := userOf(addresses); inURL && len(ways) > 0 {
		r.field(field).warnf("names who logs in, so %s is not used: leave what stands before the @ out", ways[0])
	}
	s.TLS.validate(r.field("tls"))
}

// sasl is what a Kafka client needs to authenticate.
type sasl struct {
	required       bool
	mechanism      string
	user, password bool
	oauth          *OAuthSpec
}

// MechanismOAuth is the SASL mechanism that saslOAuth is for.
const MechanismOAuth = "OAUTHBEARER"

func (r report) sasl(s sasl) {
	r.field("saslMechanism").oneOf(s.mechanism, "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", MechanismOAuth)
	switch {
	case !s.required && (s.user || s.password || s.oauth != nil):
		r.field("authRequired").warnf("is false, so the credentials are not used: set it to true to use them")
	case !s.required:
	case s.mechanism == MechanismOAuth:
		s.oauth.validate(r.field("saslOAuth"))
		if s.user || s.password {
			r.field("saslMechanism").warnf("is %s, so the user name and the password are not used: leave them out", MechanismOAuth)
		}
	case s.oauth != nil:
		r.field("saslMechanism").errorf("does not use saslOAuth: set it to %s, or leave saslOAuth out", MechanismOAuth)
	case !s.user && !s.password:
		r.field("authRequired").errorf("is true, but there is no user name and no password: set saslUsername and saslPasswordFrom")
	case !s.user:
		r.field("saslUsername").errorf("is empty, but authRequired is true: set the user name that the brokers know")
	case !s.password:
		r.field("saslPasswordFrom").errorf("is empty, but authRequired is true: name the Secret and key that hold the password")
	}
}

func (s *OAuthSpec) validate(r report) {
	if s == nil {
		r.errorf("is empty, but saslMechanism is %s: say where its tokens come from, with tokenURL, clientID and clientSecretFrom", MechanismOAuth)
		return
	}
	r.field("tokenURL").httpsURL(s.TokenURL, "https://login.example.com/oauth/token")
	if s.ClientID == "" {
		r.field("clientID").errorf("is empty: write the id that the authorization server knows")
	}
	r.requiredSecret("clientSecret", s.ClientSecretFrom, "the client's secret")
	r.authorities(s.CACert, s.CACertFrom)
}
