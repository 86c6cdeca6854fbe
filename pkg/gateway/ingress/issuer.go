package ingress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/time/rate"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/peer"
	"github.com/openfunction/events/pkg/plan"
)

const (
	// keysAge is how long keys are used without a look whether the issuer still has them.
	keysAge = time.Hour
	// fetchTime bounds one look, which a request waits for.
	fetchTime = 5 * time.Second
	// fetchPause is between looks, and fetchBurst how many may follow each other at once: anyone may name a key that nobody knows.
	fetchPause = 5 * time.Second
	fetchBurst = 3
	// maxDocument bounds what an issuer may answer.
	maxDocument = 1 << 20
)

// issuer knows the keys of an OpenID Connect issuer. It asks when somebody shows a token, never before, and not more often than fetchPause
// allows. It is safe for concurrent use.
type issuer struct {
	url    string
	part   string // what it is asked for, in logs
	peer   peer.Peer
	client *http.Client
	now    func() time.Time
	known  atomic.Pointer[published] // nil before the first answer
	looked atomic.Int64              // how often it was asked
	failed atomic.Pointer[failure]   // what the last look ended with, nil for keys

	// turn is held by who asks; it guards looks.
	turn  chan struct{}
	looks *rate.Limiter
}

// failure is a look that did not end with keys.
type failure struct{ error }

// published are the keys that an issuer had.
type published struct {
	keys []jose.JSONWebKey
	at   time.Time
}

func newIssuer(o *plan.OIDC, part string, options Options) (*issuer, error) {
	secured := &plan.TLS{CACerts: o.CACerts}
	config, err := secured.Config()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: options.Dial, TLSClientConfig: config, DisableKeepAlives: true} // it is asked about once an hour
	return &issuer{
		url:  o.Issuer,
		part: part,
		peer: peer.Peer{
			Name: "the issuer", TLS: secured, Authorities: "auth.oidc.caCertFrom", Host: "correct auth.oidc.issuer", Plain: "correct auth.oidc.issuer",
		},
		client: &http.Client{Transport: secure{transport}},
		now:    options.Now,
		turn:   make(chan struct{}, 1),
		looks:  rate.NewLimiter(rate.Every(fetchPause), fetchBurst),
	}, nil
}

// find returns the keys with this id, all keys for none, and an error if they cannot be known at the moment. Again says that those which
// are known already did not fit.
func (i *issuer) find(ctx context.Context, id string, again bool) ([]jose.JSONWebKey, error) {
	looked, known := i.looked.Load(), i.known.Load()
	keys := known.match(id)
	if len(keys) > 0 && !again && i.now().Sub(known.at) < keysAge {
		return keys, nil
	}
	if !i.wait(ctx, len(keys) == 0 || again) {
		return keys, ctx.Err() // old keys go on while another request looks for new ones
	}
	defer func() { <-i.turn }()
	// What another request has just learned is good enough: those that wait for an issuer that hangs must not do so one after the other.
	if i.looked.Load() == looked && i.looks.AllowN(i.now(), 1) {
		i.look(ctx)
	}
	if keys = i.known.Load().match(id); len(keys) > 0 {
		return keys, nil
	}
	if f := i.failed.Load(); f != nil {
		return nil, f
	}
	return nil, nil
}

// problem returns why the issuer cannot be asked, unless it answered so lately that its keys are used without asking it.
func (i *issuer) problem() error {
	known, f := i.known.Load(), i.failed.Load()
	if f == nil || known != nil && i.now().Sub(known.at) < keysAge {
		return nil
	}
	return f
}

// wait takes the turn, if need be after another request's, and reports whether it did.
func (i *issuer) wait(ctx context.Context, patient bool) bool {
	if !patient {
		select {
		case i.turn <- struct{}{}:
			return true
		default:
			return false
		}
	}
	select {
	case i.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *published) match(id string) []jose.JSONWebKey {
	if p == nil {
		return nil
	}
	if id == "" {
		return p.keys
	}
	var found []jose.JSONWebKey
	for _, key := range p.keys {
		if key.KeyID == id {
			found = append(found, key)
		}
	}
	return found
}

// look asks the issuer for its keys and tells the log when that begins to fail, and when it works again.
func (i *issuer) look(ctx context.Context) {
	log := logging.FromContext(ctx).With("part", i.part)
	keys, err := i.fetch(ctx)
	switch {
	case err == nil:
		i.known.Store(&published{keys, i.now()})
		if i.failed.Swap(nil) != nil {
			log.Infow("issuer answers again", "issuer", i.url)
		}
	default:
		// What an issuer says of itself may be long.
		f := &failure{fmt.Errorf("auth.oidc.issuer %s cannot be asked for its keys: %.1000s", i.url, err)}
		if i.failed.Swap(f) == nil {
			log.Warnw("tokens cannot be checked", "error", f)
		}
	}
	i.looked.Add(1)
}

// fetch goes on when the caller hangs up: others want the keys too.
func (i *issuer) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
	defer cancel()
	var about struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := i.get(ctx, strings.TrimSuffix(i.url, "/")+"/.well-known/openid-configuration", &about); err != nil {
		return nil, err
	}
	if about.Issuer != i.url {
		return nil, fmt.Errorf("it calls itself %q: write the issuer as it does", about.Issuer)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := i.get(ctx, about.Keys, &set); err != nil {
		return nil, err
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		// A set may hold keys of kinds that we do not know, and those for other purposes.
		if json.Unmarshal(raw, &key) == nil && key.IsPublic() && key.Use != "enc" {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no key that signatures can be checked with", about.Keys)
	}
	return keys, nil
}

func (i *issuer) get(ctx context.Context, address string, to any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := i.client.Do(r)
	if err != nil {
		return i.explain(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: status %d", address, response.StatusCode)
	}
	document, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err == nil && len(document) > maxDocument {
		err = fmt.Errorf("the answer is larger than %d bytes", maxDocument)
	}
	if err == nil {
		err = json.Unmarshal(document, to)
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", address, err)
	}
	return nil
}

// explain returns err, of a request, with what to do.
func (i *issuer) explain(err error) error {
	var request *url.Error
	if !errors.As(err, &request) {
		return err
	}
	cause := i.peer.Untrusted(err)
	if cause == nil {
		cause = fmt.Errorf("%w: see that the issuer answers there, or correct auth.oidc.issuer", request.Err)
	}
	return fmt.Errorf("get %s: %w", request.URL, cause)
}

// secure keeps the documents and redirects of an issuer from leading to a URL without TLS.
type secure struct{ http.RoundTripper }

// RoundTrip makes one request.
func (s secure) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, errors.New("an issuer and where it leads to must be https URLs")
	}
	return s.RoundTripper.RoundTrip(r)
}
