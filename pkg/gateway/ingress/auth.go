package ingress

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/openfunction/events/pkg/plan"
)

// auth decides who may post. Its errors hold nothing of what a request shows, nor of what it should. The zero value lets anyone.
type auth struct {
	// head decides by the headers alone, before anything is spent on the body; nil lets all through.
	head func(r *http.Request) error
	// body decides by the bytes of the body as they came; nil lets all through.
	body func(h http.Header, body []byte) error
	// problem is why it can let nobody through; nil if it always can.
	problem func() error
}

func (i *Ingress) newAuth(o *RouteOptions) (auth, error) {
	a, realm := o.HTTP.Auth, o.path()
	switch {
	case a == nil:
		return auth{}, nil
	case a.Bearer != nil:
		return newBearer(a.Bearer, realm)
	case a.Basic != nil:
		return newBasic(a.Basic, realm)
	case a.HMAC != nil:
		return newSignature(a.HMAC, realm, i.o.Now)
	case a.OIDC != nil:
		return newOIDC(a.OIDC, o, i.o)
	}
	return auth{}, errors.New("it says nothing: set one of bearer, basic, hmac or oidc")
}

// unauthorized is 401 with the challenge that goes with it.
func unauthorized(challenge, says string) error {
	refused := refuse(http.StatusUnauthorized, "%s", says)
	refused.challenge = challenge
	return refused
}

// digest stands for a secret: digests have one length, so comparing them tells nothing of the secret's.
type digest [sha256.Size]byte

func digests(secrets []string) ([]digest, error) {
	if err := filled(secrets); err != nil {
		return nil, err
	}
	all := make([]digest, len(secrets))
	for n, secret := range secrets {
		all[n] = sha256.Sum256([]byte(secret))
	}
	return all, nil
}

// filled keeps an empty secret, which anybody could show, from opening a door.
func filled(secrets []string) error {
	if len(secrets) == 0 || slices.Contains(secrets, "") {
		return errors.New("its secret is empty: write one")
	}
	return nil
}

// oneOf is 1 if shown is one of all, in a time that does not depend on which.
func oneOf(all []digest, shown string) int {
	sum := sha256.Sum256([]byte(shown))
	found := 0
	for n := range all {
		found |= subtle.ConstantTimeCompare(sum[:], all[n][:])
	}
	return found
}

// bearerToken is empty if there is none.
func bearerToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

const (
	noBearer      = "the request shows no bearer token: send it in header Authorization, after the word Bearer"
	invalidBearer = `, error="invalid_token"` // RFC 6750, section 3
)

func newBearer(b *plan.Bearer, realm string) (auth, error) {
	tokens, err := digests(b.Tokens)
	if err != nil {
		return auth{}, fmt.Errorf("bearer: %w", err)
	}
	challenge := fmt.Sprintf("Bearer realm=%q", realm)
	return auth{head: func(r *http.Request) error {
		token := bearerToken(r)
		if token == "" {
			return unauthorized(challenge, noBearer)
		}
		if oneOf(tokens, token) == 0 {
			return unauthorized(challenge+invalidBearer, "the bearer token is not one of this event's: send one that its Secret holds")
		}
		return nil
	}}, nil
}

func newBasic(b *plan.Basic, realm string) (auth, error) {
	username, err := digests([]string{b.Username})
	if err != nil {
		return auth{}, fmt.Errorf("basic: user name: %w", err)
	}
	passwords, err := digests(b.Passwords)
	if err != nil {
		return auth{}, fmt.Errorf("basic: password: %w", err)
	}
	challenge := fmt.Sprintf(`Basic realm=%q, charset="UTF-8"`, realm)
	return auth{head: func(r *http.Request) error {
		name, password, shown := r.BasicAuth()
		if !shown {
			return unauthorized(challenge, "the request shows no user name and password: send them in header Authorization, after the word Basic")
		}
		if oneOf(username, name)&oneOf(passwords, password) == 0 {
			return unauthorized(challenge, "the user name or the password is not this event's: send those that its auth names")
		}
		return nil
	}}, nil
}
