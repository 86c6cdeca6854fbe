package ingress

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/openfunction/events/pkg/plan"
)

// skew is how much the issuer's clock may differ from ours where a token's expiry is concerned.
const skew = time.Minute

// algorithms are all with a public key. One with a shared secret would take the issuer's public key for that.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// tokens checks JSON Web Tokens.
type tokens struct {
	spec      plan.OIDC
	challenge string
	issuer    *issuer
	config    oidc.Config
}

func newOIDC(o *plan.OIDC, route *RouteOptions, options Options) (auth, error) {
	if o.Issuer == "" || o.Audience == "" {
		return auth{}, errors.New("oidc: issuer and audience are required: write both, or tokens for anyone would do")
	}
	i, err := newIssuer(o, route.part(), options)
	if err != nil {
		return auth{}, fmt.Errorf("oidc: %w", err)
	}
	t := &tokens{spec: *o, issuer: i, challenge: fmt.Sprintf("Bearer realm=%q", route.path())}
	t.config.SkipClientIDCheck = true // done here, for the sake of a sentence of its own
	t.config.Now = func() time.Time { return options.Now().Add(-skew) }
	for _, a := range algorithms {
		t.config.SupportedSigningAlgs = append(t.config.SupportedSigningAlgs, string(a))
	}
	return auth{head: t.check, problem: i.problem}, nil
}

func (t *tokens) check(r *http.Request) error {
	raw := bearerToken(r)
	if raw == "" {
		return unauthorized(t.challenge, noBearer)
	}
	keys := &keySet{issuer: t.issuer}
	token, err := oidc.NewVerifier(t.spec.Issuer, keys, &t.config).Verify(r.Context(), raw)
	var expired *oidc.TokenExpiredError
	switch {
	case keys.away:
		away := refuse(http.StatusServiceUnavailable, "the token cannot be checked, since issuer %s cannot be asked for its keys: try again later", t.spec.Issuer)
		away.after = fetchPause
		return away
	case errors.As(err, &expired):
		return t.invalid("the token has expired: get a new one")
	case err != nil: // the cause may quote the token
		return t.invalid(fmt.Sprintf("the token is not one that issuer %s has signed and that is valid now: get one there", t.spec.Issuer))
	case !slices.Contains(token.Audience, t.spec.Audience):
		return t.invalid(fmt.Sprintf("the token is for another audience: get one for %s", t.spec.Audience))
	case len(t.spec.Subjects) > 0 && !slices.Contains(t.spec.Subjects, token.Subject):
		return refuse(http.StatusForbidden, "the token is valid, but its subject may not post here: add it to auth.oidc.subjects of the event")
	}
	return nil
}

func (t *tokens) invalid(says string) error { return unauthorized(t.challenge+invalidBearer, says) }

// keySet checks one token with the issuer's keys. go-oidc gives errors on as text alone, so this one remembers whose fault it was.
type keySet struct {
	issuer *issuer
	away   bool
}

var _ oidc.KeySet = (*keySet)(nil)

// VerifySignature returns what was signed.
func (k *keySet) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	token, err := jose.ParseSigned(raw, algorithms)
	if err != nil {
		return nil, err
	}
	id := token.Signatures[0].Header.KeyID
	payload, err := k.verify(ctx, token, id, false)
	if err != nil && !k.away && id == "" { // without an id only a look tells whether there is a new key
		payload, err = k.verify(ctx, token, id, true)
	}
	return payload, err
}

func (k *keySet) verify(ctx context.Context, token *jose.JSONWebSignature, id string, again bool) ([]byte, error) {
	keys, err := k.issuer.find(ctx, id, again)
	if err != nil {
		k.away = true
		return nil, err
	}
	for n := range keys {
		if payload, err := token.Verify(&keys[n]); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("no key of the issuer fits")
}
