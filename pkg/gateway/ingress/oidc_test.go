package ingress_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/ingress"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// signer is a key of an issuer.
type signer struct {
	t   *testing.T
	id  string
	key *ecdsa.PrivateKey
}

func newSigner(t *testing.T, id string) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{t, id, key}
}

func (s *signer) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.key.Public(), KeyID: s.id, Use: "sig", Algorithm: "ES256"}
}

// claims of a token. Times are seconds.
type claims map[string]any

func (s *signer) token(c claims) string {
	s.t.Helper()
	return signedToken(s.t, jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: s.key, KeyID: s.id}}, c)
}

func signedToken(t *testing.T, key jose.SigningKey, c claims) string {
	t.Helper()
	by, err := jose.NewSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := by.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// provider is an OpenID Connect issuer with TLS that a test can change.
type provider struct {
	*httptest.Server
	cert  string
	asked atomic.Int32 // for its keys

	mu     sync.Mutex
	answer http.HandlerFunc // in place of its own
	issuer string
	keys   []any
}

func newProvider(t *testing.T, keys ...any) *provider {
	t.Helper()
	p := &provider{keys: keys}
	p.Server = httptest.NewTLSServer(p)
	t.Cleanup(p.Close)
	p.issuer = p.URL
	p.cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
	p.Config.ErrorLog = zap.NewStdLog(zap.NewNop()) // a client that does not trust it is no news
	return p
}

func (p *provider) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	answer, issuer, keys := p.answer, p.issuer, p.keys
	p.mu.Unlock()
	switch {
	case answer != nil:
		answer(w, r)
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": issuer, "jwks_uri": p.URL + "/keys"})
	case r.URL.Path == "/keys":
		p.asked.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	default:
		http.NotFound(w, r)
	}
}

func (p *provider) auth() plan.HTTPAuth {
	return plan.HTTPAuth{OIDC: &plan.OIDC{Issuer: p.URL, Audience: "events", CACerts: p.cert}}
}

// valid are the claims of a token that is taken, with others in place of, or besides, its own.
func (p *provider) valid(others claims) claims {
	c := claims{"iss": p.URL, "aud": "events", "sub": "ann", "iat": at, "exp": at + 60}
	for name, value := range others {
		c[name] = value
	}
	return c
}

// bearing posts an event with a token.
func bearing(h http.Handler, token string) (status int, response http.Header, says string) {
	r := do(h, "POST", eventPath, binaryWith("Authorization: Bearer "+token), nil)
	body, _ := io.ReadAll(r.Body)
	return r.StatusCode, r.Header, string(body)
}

func TestTokens(t *testing.T) {
	known, stranger := newSigner(t, "1"), newSigner(t, "1")
	nameless := newSigner(t, "")
	p := newProvider(t, known.public(), map[string]string{"kty": "new", "kid": "2"}, map[string]string{"kty": "oct", "k": "c2VjcmV0", "kid": "3"}, nameless.public())
	secret := []byte("secret-secret-secret-secret-secret")
	tests := []struct {
		name     string
		token    string
		subjects []string
		status   int
		says     string
	}{
		{"a valid one", known.token(p.valid(nil)), nil, 202, ""},
		{"one for several audiences", known.token(p.valid(claims{"aud": []string{"other", "events"}})), nil, 202, ""},
		{"one without a key's id", nameless.token(p.valid(nil)), nil, 202, ""},
		{"one of a subject that may", known.token(p.valid(nil)), []string{"bob", "ann"}, 202, ""},
		{"one that has just expired by our clock", known.token(p.valid(claims{"exp": at - 59})), nil, 202, ""},
		{"one that begins soon by our clock", known.token(p.valid(claims{"nbf": at + 59})), nil, 202, ""},
		{"one of a subject that may not", known.token(p.valid(nil)), []string{"bob"}, 403, "its subject may not post here: add it to auth.oidc.subjects"},
		{"one without a subject", known.token(p.valid(claims{"sub": ""})), []string{"bob"}, 403, "its subject may not post here"},
		{"none", "", nil, 401, "shows no bearer token"},
		{"what is no token", "ann", nil, 401, "is not one that issuer " + p.URL + " has signed"},
		{"one for another audience", known.token(p.valid(claims{"aud": "other"})), nil, 401, "for another audience: get one for events"},
		{"one for nobody", known.token(p.valid(claims{"aud": []string{}})), nil, 401, "for another audience"},
		{"one that has expired", known.token(p.valid(claims{"exp": at - 61})), nil, 401, "has expired: get a new one"},
		{"one that never expires", known.token(claims{"iss": p.URL, "aud": "events", "sub": "ann"}), nil, 401, "has expired"},
		{"one that begins later", known.token(p.valid(claims{"nbf": at + 600, "exp": at + 900})), nil, 401, "is not one that issuer"},
		{"one of another issuer", known.token(p.valid(claims{"iss": "https://other.example"})), nil, 401, "is not one that issuer"},
		{"one that somebody else signed", stranger.token(p.valid(nil)), nil, 401, "is not one that issuer"},
		{"one that nobody signed", "eyJhbGciOiJub25lIn0.e30.", nil, 401, "is not one that issuer"},
		{"one that is signed with a shared secret", signedToken(t, jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: secret, KeyID: "3"}}, p.valid(nil)), nil, 401, "is not one that issuer"},
		{"one that was changed", changed(known.token(p.valid(nil))), nil, 401, "is not one that issuer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var next inbox
			auth := p.auth()
			auth.OIDC.Subjects = tt.subjects
			_, h := serving(t, ingress.Options{Now: new(clock).now}, guarded(&next, auth))
			status, header, says := bearing(h, tt.token)
			if status != tt.status || !strings.Contains(says, tt.says) || (len(next.took) == 1) != (tt.status == 202) {
				t.Errorf("answer = %d %q with %d taken, want %d that says %q", status, says, len(next.took), tt.status, tt.says)
			}
			ask := ""
			if tt.status == 401 {
				ask = `Bearer realm="/ns/es/e"`
				if tt.token != "" {
					ask += `, error="invalid_token"`
				}
			}
			if got := header.Get("WWW-Authenticate"); got != ask {
				t.Errorf("WWW-Authenticate = %q, want %q", got, ask)
			}
			if strings.Contains(says, "ann") || tt.token != "" && strings.Contains(says, tt.token) {
				t.Errorf("answer = %q, want nothing of the token in it", says)
			}
		})
	}
}

// changed puts another payload between a token's header and its signature.
func changed(token string) string {
	parts := strings.Split(token, ".")
	return parts[0] + "." + parts[1][:len(parts[1])-4] + "." + parts[2]
}

func TestATokenGuardsEveryMode(t *testing.T) {
	known := newSigner(t, "1")
	p := newProvider(t, known.public())
	var next inbox
	_, h := serving(t, ingress.Options{Now: new(clock).now}, guarded(&next, p.auth()))
	for name, mode := range modes {
		header := mode.header.Clone()
		if got := do(h, "POST", eventPath, header, unread{t}).StatusCode; got != 401 {
			t.Errorf("%s without a token: status = %d, want 401", name, got)
		}
		header.Set("Authorization", "Bearer "+known.token(p.valid(nil)))
		if got := do(h, "POST", eventPath, header, strings.NewReader(mode.body)).StatusCode; got != 202 {
			t.Errorf("%s with one: status = %d, want 202", name, got)
		}
	}
	if got := p.asked.Load(); got != 1 {
		t.Errorf("the issuer was asked %d times for its keys, want 1", got)
	}
}

func TestKeysAreLookedUpAgain(t *testing.T) {
	first, second, third := newSigner(t, "1"), newSigner(t, "2"), newSigner(t, "3")
	p := newProvider(t, first.public())
	var c clock
	var next inbox
	o := guarded(&next, p.auth())
	i, h := serving(t, ingress.Options{Now: c.now}, o)
	if p.asked.Load() != 0 {
		t.Error("the issuer was asked before there was a token")
	}
	check := func(when string, s *signer, status int, asked int32) {
		t.Helper()
		token := s.token(p.valid(claims{"exp": c.now().Unix() + 60}))
		if got, _, says := bearing(h, token); got != status || p.asked.Load() != asked {
			t.Errorf("%s: answer = %d %q after asking %d times, want %d after %d", when, got, says, p.asked.Load(), status, asked)
		}
	}
	check("a key that is known", first, 202, 1)
	check("a key that is cached", first, 202, 1)
	check("a key that is not there yet", second, 401, 2)
	p.change(func() { p.keys = []any{first.public(), second.public()} })
	check("a key that has come", second, 202, 3)
	check("a key that nobody knows, when there was enough asking", third, 401, 3)
	check("a key that is known, then", first, 202, 3)

	c.advance(5 * time.Second)
	check("a key that nobody knows, later", third, 401, 4)

	serve(t, i, o)
	check("after the same plan", first, 202, 4)

	p.change(func() { p.keys = []any{second.public()} })
	c.advance(time.Hour)
	check("a key that is gone, an hour later", first, 401, 5)
	check("one that is still there", second, 202, 5)
}

func TestKeysWithoutAnIDAreLookedUpAgain(t *testing.T) {
	first, second := newSigner(t, ""), newSigner(t, "")
	p := newProvider(t, first.public())
	var c clock
	var next inbox
	_, h := serving(t, ingress.Options{Now: c.now}, guarded(&next, p.auth()))
	for _, s := range []*signer{first, second} {
		p.change(func() { p.keys = []any{s.public()} })
		if status, _, says := bearing(h, s.token(p.valid(nil))); status != 202 {
			t.Errorf("a token by the issuer's only key = %d %q, want 202", status, says)
		}
	}
	if status, _, _ := bearing(h, first.token(p.valid(nil))); status != 401 {
		t.Errorf("a token by the key before = %d, want 401", status)
	}
}

func TestAnIssuerThatIsAway(t *testing.T) {
	known := newSigner(t, "1")
	for name, away := range map[string]func(p *provider, ca *string){
		"it answers 500": func(p *provider, _ *string) {
			p.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
		},
		"it answers no JSON": func(p *provider, _ *string) {
			p.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }
		},
		"it answers for ever": func(p *provider, _ *string) { p.answer = endless },
		"it leads to no TLS": func(p *provider, _ *string) {
			p.answer = http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound).ServeHTTP
		},
		"it has another name":  func(p *provider, _ *string) { p.issuer = "https://other.example" },
		"it has no keys":       func(p *provider, _ *string) { p.keys = nil },
		"its authority is new": func(_ *provider, ca *string) { *ca = "" },
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t, known.public())
			auth := p.auth()
			p.change(func() { away(p, &auth.OIDC.CACerts) })
			var next inbox
			_, h := serving(t, ingress.Options{Now: new(clock).now}, guarded(&next, auth))
			status, header, says := bearing(h, known.token(p.valid(nil)))
			if got := header.Get("Retry-After"); status != 503 || got != "5" || !strings.Contains(says, "issuer "+p.URL+" cannot be asked for its keys: try again later") {
				t.Errorf("answer = %d %q with Retry-After %q, want 503 with 5", status, says, got)
			}
			if header.Get("WWW-Authenticate") != "" {
				t.Error("the answer asks for another token, want it not to")
			}
			if status, _, _ := bearing(h, ""); status != 401 {
				t.Errorf("no token at all = %d, want 401", status)
			}
		})
	}
}

func endless(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := w.Write(make([]byte, 64<<10)); err != nil {
			return
		}
	}
}

func TestAnIssuerComesAndGoes(t *testing.T) {
	known, unknown := newSigner(t, "1"), newSigner(t, "2")
	p := newProvider(t, known.public())
	var c clock
	var down atomic.Bool
	down.Store(true)
	var next inbox
	o := guarded(&next, p.auth())
	i, h := serving(t, ingress.Options{Now: c.now, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if down.Load() {
			return nil, errors.New("connection refused")
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}, o)
	core, logs := observer.New(zapcore.InfoLevel)
	logged := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(logging.WithLogger(r.Context(), zap.New(core).Sugar())))
	})
	check := func(when string, s *signer, want int, problem bool) {
		t.Helper()
		token := s.token(p.valid(claims{"exp": c.now().Unix() + 60}))
		if got, _, says := bearing(logged, token); got != want {
			t.Errorf("%s: answer = %d %q, want %d", when, got, says, want)
		}
		if err := problemOf(t, i, o); (err != nil) != problem {
			t.Errorf("%s: Problem() = %v, want one: %t", when, err, problem)
		}
	}
	if err := problemOf(t, i, o); err != nil {
		t.Errorf("nobody has asked: Problem() = %v", err)
	}
	for range 5 {
		check("it is away from the beginning", known, 503, true)
	}
	down.Store(false)
	c.advance(5 * time.Second)
	check("it has come", known, 202, false)
	down.Store(true)
	check("it is away, and its keys are known", known, 202, false)
	c.advance(5 * time.Second)
	check("it is away, and might have this key by now", unknown, 503, false)
	c.advance(time.Hour)
	for range 5 {
		check("it is away, and its keys are old", known, 202, true)
	}
	down.Store(false)
	c.advance(5 * time.Second)
	check("it is there again", unknown, 401, false)

	var got []string
	for _, entry := range logs.All() {
		got = append(got, entry.Message)
		for _, field := range entry.Context {
			if strings.Contains(field.String, "eyJ") {
				t.Errorf("the log holds a token: %v", field)
			}
		}
	}
	want := "tokens cannot be checked, issuer answers again, tokens cannot be checked, issuer answers again"
	if strings.Join(got, ", ") != want {
		t.Errorf("log = %s, want %s", strings.Join(got, ", "), want)
	}
}

// problemOf is the problem of what is served for o: an equal route shares it.
func problemOf(t *testing.T, i *ingress.Ingress, o ingress.RouteOptions) error {
	t.Helper()
	r, err := i.NewRoute(o)
	if err != nil {
		t.Fatal(err)
	}
	return r.Problem()
}

func TestWhyTokensCannotBeChecked(t *testing.T) {
	ours, other := servers.NewAuthority(t), servers.NewAuthority(t)
	const unknown = "the issuer's certificate was signed by an authority that is not trusted: "
	known := newSigner(t, "1")
	past := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, tt := range []struct {
		name    string
		shown   servers.Certificate
		caCerts string
		down    bool
		want    string // after the document that was asked for
	}{
		{"no authority", ours.Server(), "", false, unknown + "set auth.oidc.caCertFrom to the certificate of that authority"},
		{"another authority", other.Server(), ours.Cert, false, unknown + "correct auth.oidc.caCertFrom: no valid certificate of that authority is there"},
		{"another host", ours.ServerOf("issuer.example.com"), ours.Cert, false, "the issuer's certificate is for another host " +
			"(x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs): correct auth.oidc.issuer, or give the issuer a certificate for this one"},
		{"an expired certificate", ours.ServerAt(past.Add(-time.Hour), past), ours.Cert, false, "the issuer's certificate expired at 2020-02-03T04:05:06Z: renew it there"},
		{"nobody there", ours.Server(), ours.Cert, true, "connection refused: see that the issuer answers there, or correct auth.oidc.issuer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &provider{keys: []any{known.public()}}
			p.Server = httptest.NewUnstartedServer(p)
			p.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
			var shown atomic.Pointer[tls.Certificate]
			show := func(c servers.Certificate) { pair := c.Pair(t); shown.Store(&pair) }
			show(tt.shown)
			// GetCertificate would not do: httptest adds a certificate of its own.
			p.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return &tls.Config{Certificates: []tls.Certificate{*shown.Load()}}, nil
			}}
			p.StartTLS()
			defer p.Close()
			p.issuer = p.URL
			var down atomic.Bool
			down.Store(tt.down)
			dial := func(ctx context.Context, network, address string) (net.Conn, error) {
				if down.Load() {
					return nil, errors.New("connection refused")
				}
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			var c clock
			var next inbox
			o := guarded(&next, plan.HTTPAuth{OIDC: &plan.OIDC{Issuer: p.URL, Audience: "events", CACerts: tt.caCerts}})
			i, h := serving(t, ingress.Options{Now: c.now, Dial: dial}, o)
			core, logs := observer.New(zapcore.InfoLevel)
			logged := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(w, r.WithContext(logging.WithLogger(r.Context(), zap.New(core).Sugar())))
			})
			token := known.token(p.valid(nil))
			for range 3 {
				if status, _, says := bearing(logged, token); status != 503 {
					t.Errorf("answer = %d %q, want 503", status, says)
				}
				c.advance(5 * time.Second)
			}
			want := "auth.oidc.issuer " + p.URL + " cannot be asked for its keys: get " + p.URL + "/.well-known/openid-configuration: " + tt.want
			if got := fmt.Sprint(problemOf(t, i, o)); got != want {
				t.Errorf("Problem() = %s\nwant %s", got, want)
			}
			said := []string{"map[error:" + want + " part:EventSource ns/es http event e] tokens cannot be checked"}
			if tt.caCerts != "" { // otherwise another plan is the cure
				show(ours.Server())
				down.Store(false)
				if status, _, says := bearing(logged, token); status != 202 || problemOf(t, i, o) != nil {
					t.Errorf("when it is cured: answer = %d %q, Problem() = %v", status, says, problemOf(t, i, o))
				}
				said = append(said, "map[issuer:"+p.URL+" part:EventSource ns/es http event e] issuer answers again")
			}
			var got []string
			for _, entry := range logs.All() {
				got = append(got, fmt.Sprint(entry.ContextMap(), " ", entry.Message))
			}
			if diff := cmp.Diff(said, got); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnIssuerThatHangs(t *testing.T) {
	known := newSigner(t, "1")
	synctest.Test(t, func(t *testing.T) {
		var dialed atomic.Int32
		dial := func(context.Context, string, string) (net.Conn, error) {
			dialed.Add(1)
			conn, silent := net.Pipe()
			t.Cleanup(func() { _ = silent.Close() })
			return conn, nil
		}
		var next inbox
		auth := plan.HTTPAuth{OIDC: &plan.OIDC{Issuer: "https://silent.example", Audience: "events"}}
		_, h := serving(t, ingress.Options{Dial: dial}, guarded(&next, auth))
		begin := time.Now()
		token := known.token(claims{})
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if status, _, _ := bearing(h, token); status != 503 {
					t.Errorf("status = %d, want 503", status)
				}
			})
		}
		group.Wait()
		if took := time.Since(begin); took != 5*time.Second || dialed.Load() != 1 {
			t.Errorf("20 requests at once took %s and dialed %d times, want all to wait for one look of 5s", took, dialed.Load())
		}
	})
}
