package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/IBM/sarama"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/openfunction/events/pkg/plan"
)

// tokenTimeout bounds one request for a token: brokers give a client that connects little more.
const tokenTimeout = 10 * time.Second

// tokens hands out access tokens, each until shortly before it expires. It is safe for concurrent use.
type tokens struct {
	endpoint    string // without what may be secret
	authorities string // PEM
	source      oauth2.TokenSource
}

var _ sarama.AccessTokenProvider = (*tokens)(nil)

func newTokens(o *plan.OAuth, dialer *Dialer) (*tokens, error) {
	if o == nil {
		return nil, errors.New("SASL mechanism OAUTHBEARER: it is not said where its tokens come from")
	}
	if _, err := url.Parse(o.TokenURL); err != nil {
		return nil, errors.New("the token URL is not a URL") // err would show what may hold a password
	}
	secure, err := (&plan.TLS{CACerts: o.CACerts}).Config()
	if err != nil {
		return nil, fmt.Errorf("token URL: %w", err)
	}
	client := &http.Client{
		Timeout: tokenTimeout,
		// Tokens are rare: no connection waits for the next one.
		Transport: &http.Transport{DialContext: dialer.connect, TLSClientConfig: secure, DisableKeepAlives: true},
		// Whoever is redirected to would be shown the client's secret.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	config := &clientcredentials.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, TokenURL: o.TokenURL, Scopes: o.Scopes}
	ctx := context.WithValue(dialer.ctx, oauth2.HTTPClient, client)
	return &tokens{endpoint: plan.HideURL(o.TokenURL), authorities: o.CACerts, source: config.TokenSource(ctx)}, nil
}

// Token implements sarama.AccessTokenProvider.
func (t *tokens) Token() (*sarama.AccessToken, error) {
	token, err := t.source.Token()
	if err != nil {
		return nil, &tokenError{endpoint: t.endpoint, authorities: t.authorities, err: err}
	}
	return &sarama.AccessToken{Token: token.AccessToken}, nil
}
