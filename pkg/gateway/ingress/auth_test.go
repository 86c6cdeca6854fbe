package ingress_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/gateway/ingress"
	"github.com/openfunction/events/pkg/plan"
)

// guarded is a route with auth that takes raw bodies too.
func guarded(next *inbox, auth plan.HTTPAuth) ingress.RouteOptions {
	o := route(next)
	o.HTTP.Raw, o.HTTP.Auth = true, &auth
	return o
}

// modes are an event in each of the four.
var modes = map[string]struct {
	header http.Header
	body   string
}{
	"binary":     {binaryWith(), "a"},
	"structured": {headers(ceJSON), least},
	"batch":      {headers(ceBatch), "[" + least + "]"},
	"raw":        {headers("Content-Type: text/plain"), "a"},
}

func basic(name, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

func mac(secret, signed string) string {
	m := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(m, signed)
	return hex.EncodeToString(m.Sum(nil))
}

var (
	bearer = plan.HTTPAuth{Bearer: &plan.Bearer{Tokens: []string{"old-token", "new-token"}}}
	basics = plan.HTTPAuth{Basic: &plan.Basic{Username: "ann", Passwords: []string{"old-word", "new-word"}}}
	github = plan.HTTPAuth{HMAC: &plan.HMAC{Scheme: "github", Secrets: []string{"old-secret", "new-secret"}}}
	stripe = plan.HTTPAuth{HMAC: &plan.HMAC{Scheme: "stripe", Secrets: []string{"old-secret", "new-secret"}, Tolerance: 5 * time.Minute}}
)

// at is when these tests happen: Stripe's own example was signed then.
const at = 1533204620

func TestAuth(t *testing.T) {
	const (
		askBearer = `Bearer realm="/ns/es/e"`
		badBearer = askBearer + `, error="invalid_token"`
		askBasic  = `Basic realm="/ns/es/e", charset="UTF-8"`
		askGitHub = `HMAC realm="/ns/es/e", header="X-Hub-Signature-256"`
		askStripe = `HMAC realm="/ns/es/e", header="Stripe-Signature"`
	)
	stamped := func(seconds int, secret, body string) string {
		return fmt.Sprintf("Stripe-Signature: t=%d,v1=%s", seconds, mac(secret, fmt.Sprintf("%d.%s", seconds, body)))
	}
	// show is what a request adds to its headers; BODY stands for the mode's body.
	tests := []struct {
		name  string
		auth  plan.HTTPAuth
		show  func(body string) string
		asked string // the challenge of a refusal
		says  string
	}{
		{"the old token", bearer, func(string) string { return "Authorization: Bearer old-token" }, "", ""},
		{"the new token", bearer, func(string) string { return "Authorization: bearer  new-token " }, "", ""},
		{"no token", bearer, nil, askBearer, "shows no bearer token"},
		{"an empty token", bearer, func(string) string { return "Authorization: Bearer " }, askBearer, "shows no bearer token"},
		{"a wrong token", bearer, func(string) string { return "Authorization: Bearer new-toke" }, badBearer, "not one of this event's"},
		{"both tokens at once", bearer, func(string) string { return "Authorization: Bearer old-token\nnew-token" }, badBearer, "not one of this event's"},
		{"a user name for a token", bearer, func(string) string { return basic("old-token", "old-token") }, askBearer, "shows no bearer token"},

		{"the old password", basics, func(string) string { return basic("ann", "old-word") }, "", ""},
		{"the new password", basics, func(string) string { return basic("ann", "new-word") }, "", ""},
		{"no password", basics, nil, askBasic, "shows no user name and password"},
		{"a wrong password", basics, func(string) string { return basic("ann", "word") }, askBasic, "not this event's"},
		{"an empty password", basics, func(string) string { return basic("ann", "") }, askBasic, "not this event's"},
		{"a wrong user name", basics, func(string) string { return basic("bob", "new-word") }, askBasic, "not this event's"},
		{"what is not base64", basics, func(string) string { return "Authorization: Basic *" }, askBasic, "shows no user name"},

		{"a GitHub signature by the old secret", github, func(b string) string { return "X-Hub-Signature-256: sha256=" + mac("old-secret", b) }, "", ""},
		{"a GitHub signature by the new secret", github, func(b string) string { return "X-Hub-Signature-256: sha256=" + mac("new-secret", b) }, "", ""},
		{"no GitHub signature", github, nil, askGitHub, "not signed: send header X-Hub-Signature-256"},
		{"a GitHub signature by another secret", github, func(b string) string { return "X-Hub-Signature-256: sha256=" + mac("secret", b) }, askGitHub, "not the signature of this body"},
		{"a GitHub signature of another body", github, func(b string) string { return "X-Hub-Signature-256: sha256=" + mac("new-secret", b+" ") }, askGitHub, "not the signature of this body"},
		{"a GitHub signature that is empty", github, func(string) string { return "X-Hub-Signature-256: sha256=" }, askGitHub, "not the signature of this body"},
		{"a GitHub signature with SHA-1", github, func(b string) string { return "X-Hub-Signature-256: sha1=" + mac("new-secret", b) }, askGitHub, "is not a signature"},
		{"a GitHub signature that is not hex", github, func(string) string { return "X-Hub-Signature-256: sha256=x" }, askGitHub, "is not a signature"},

		{"a Stripe signature by the old secret", stripe, func(b string) string { return stamped(at, "old-secret", b) }, "", ""},
		{"a Stripe signature by the new secret", stripe, func(b string) string { return stamped(at-300, "new-secret", b) }, "", ""},
		{"a Stripe signature that is a little ahead", stripe, func(b string) string { return stamped(at+300, "new-secret", b) }, "", ""},
		{"Stripe signatures by two secrets", stripe, func(b string) string {
			return fmt.Sprintf("Stripe-Signature: t=%d, v1=%s,v1=*,v1=%s,v0=00", at, mac("other", "x"), mac("new-secret", fmt.Sprintf("%d.%s", at, b)))
		}, "", ""},
		{"no Stripe signature", stripe, nil, askStripe, "not signed: send header Stripe-Signature"},
		{"an old Stripe signature", stripe, func(b string) string { return stamped(at-301, "new-secret", b) }, askStripe, "by more than 5m0s"},
		{"a Stripe signature of the future", stripe, func(b string) string { return stamped(at+301, "new-secret", b) }, askStripe, "by more than 5m0s"},
		{"a Stripe signature with another time put in", stripe, func(b string) string {
			return strings.Replace(stamped(at-301, "new-secret", b), fmt.Sprint(at-301), fmt.Sprint(at), 1)
		}, askStripe, "not the signature of this body"},
		{"a Stripe signature by another secret", stripe, func(b string) string { return stamped(at, "secret", b) }, askStripe, "not the signature of this body"},
		{"a Stripe signature of another body", stripe, func(b string) string { return stamped(at, "new-secret", b+" ") }, askStripe, "not the signature of this body"},
		{"a Stripe signature without a time", stripe, func(b string) string { return "Stripe-Signature: v1=" + mac("new-secret", "."+b) }, askStripe, "is not a signature"},
		{"a Stripe signature with a time that is none", stripe, func(b string) string { return "Stripe-Signature: t=now,v1=" + mac("new-secret", "now."+b) }, askStripe, "is not a signature"},
		{"a Stripe signature of another version", stripe, func(b string) string {
			return fmt.Sprintf("Stripe-Signature: t=%d,v0=%s", at, mac("new-secret", fmt.Sprintf("%d.%s", at, b)))
		}, askStripe, "is not a signature"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for mode, m := range modes {
				var next inbox
				_, h := serving(t, ingress.Options{Now: func() time.Time { return time.Unix(at, 0) }}, guarded(&next, tt.auth))
				header := m.header.Clone()
				shown := "-"
				if tt.show != nil {
					name, value, _ := strings.Cut(tt.show(m.body), ": ")
					header.Set(name, value)
					shown = value
				}
				response := do(h, "POST", eventPath, header, strings.NewReader(m.body))
				says, _ := io.ReadAll(response.Body)
				want, took := accepted, 1
				if tt.asked != "" {
					want, took = http.StatusUnauthorized, 0
				}
				if response.StatusCode != want || !strings.Contains(string(says), tt.says) || len(next.took) != took {
					t.Errorf("%s: answer = %d %q with %d taken, want %d that says %q with %d", mode, response.StatusCode, says, len(next.took), want, tt.says, took)
				}
				if got := response.Header.Get("WWW-Authenticate"); got != tt.asked {
					t.Errorf("%s: WWW-Authenticate = %q, want %q", mode, got, tt.asked)
				}
				for _, secret := range []string{"old-", "new-", shown} {
					if secret != "-" && strings.Contains(string(says), secret) {
						t.Errorf("%s: answer = %q, want nothing of secrets in it", mode, says)
					}
				}
			}
		})
	}
}

// TestPublishedSignatures has the examples of those who define the schemes.
func TestPublishedSignatures(t *testing.T) {
	invoice, err := os.ReadFile("testdata/stripe.json")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, scheme, secret, signature, body string
	}{
		{
			"docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries", "github", "It's a Secret to Everybody",
			"X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", "Hello, World!",
		},
		{
			"github.com/stripe/stripe-dotnet EventUtilityTest", "stripe", "webhook_secret",
			"Stripe-Signature: t=1533204620,v1=f0bdba6d4eacbd8ad8a3bbadd7248e633ec1477f7899c124c51b39405fa36613,v0=63f3a72374a733066c4be69ed7f8e5ac85c22c9f0a6a612ab9a025a9e4ee7eef",
			string(invoice),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var next inbox
			_, h := serving(t, ingress.Options{Now: func() time.Time { return time.Unix(at+100, 0) }},
				guarded(&next, plan.HTTPAuth{HMAC: &plan.HMAC{Scheme: tt.scheme, Secrets: []string{tt.secret}}}))
			for body, want := range map[string]int{tt.body: accepted, tt.body + "\n": http.StatusUnauthorized} {
				if got := do(h, "POST", eventPath, headers(tt.signature), strings.NewReader(body)).StatusCode; got != want {
					t.Errorf("status of %.20q = %d, want %d", body, got, want)
				}
			}
		})
	}
}

// unread fails a test in which somebody reads it.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body of a stranger was read")
	return 0, io.EOF
}

func TestStrangersAreTurnedAwayBeforeTheirBody(t *testing.T) {
	for name, auth := range map[string]plan.HTTPAuth{"bearer": bearer, "basic": basics, "github": github, "stripe": stripe} {
		var next inbox
		_, h := serving(t, ingress.Options{}, guarded(&next, auth))
		if got := do(h, "POST", eventPath, binaryWith(), unread{t}).StatusCode; got != http.StatusUnauthorized {
			t.Errorf("%s: status = %d, want 401", name, got)
		}
	}
}

func TestASignedBodyHasALimitToo(t *testing.T) {
	var next inbox
	_, h := serving(t, ingress.Options{}, guarded(&next, github))
	body := strings.Repeat("a", 1001)
	header := headers("X-Hub-Signature-256: sha256=" + mac("new-secret", body))
	if got := do(h, "POST", eventPath, header, strings.NewReader(body)).StatusCode; got != http.StatusRequestEntityTooLarge {
		t.Errorf("status = %d, want 413", got)
	}
}

// TestAnotherPlanAsksForOtherCredentials changes auth on a route that is served: what was asked for before must open nothing any more.
func TestAnotherPlanAsksForOtherCredentials(t *testing.T) {
	key := newSigner(t, "1")
	p := newProvider(t, key.public())
	token := "Authorization: Bearer " + key.token(p.valid(nil))
	subject := func(name string) *plan.HTTPAuth {
		auth := p.auth()
		auth.OIDC.Subjects = []string{name}
		return &auth
	}
	bearing := func(tokens ...string) *plan.HTTPAuth { return &plan.HTTPAuth{Bearer: &plan.Bearer{Tokens: tokens}} }
	pass := func(name, password string) *plan.HTTPAuth {
		return &plan.HTTPAuth{Basic: &plan.Basic{Username: name, Passwords: []string{password}}}
	}
	signing := func(secret string) *plan.HTTPAuth {
		return &plan.HTTPAuth{HMAC: &plan.HMAC{Scheme: "github", Secrets: []string{secret}}}
	}
	const nothing = "X-Nothing: shown"
	tests := []struct {
		name          string
		before, after *plan.HTTPAuth
		old, new      string // what opens it before, and after
		oldStays      bool
		refusal       int
	}{
		{"another token", bearing("one"), bearing("two"), "Authorization: Bearer one", "Authorization: Bearer two", false, 401},
		{"one more token", bearing("one"), bearing("one", "two"), "Authorization: Bearer one", "Authorization: Bearer two", true, 401},
		{"one token less", bearing("one", "two"), bearing("two"), "Authorization: Bearer one", "Authorization: Bearer two", false, 401},
		{"another password", pass("ann", "one"), pass("ann", "two"), basic("ann", "one"), basic("ann", "two"), false, 401},
		{"another user name", pass("ann", "one"), pass("bob", "one"), basic("ann", "one"), basic("bob", "one"), false, 401},
		{"another signing secret", signing("one"), signing("two"), "X-Hub-Signature-256: sha256=" + mac("one", ""), "X-Hub-Signature-256: sha256=" + mac("two", ""), false, 401},
		{"another way", bearing("one"), pass("ann", "one"), "Authorization: Bearer one", basic("ann", "one"), false, 401},
		{"other subjects", subject("ann"), subject("bob"), token, "Authorization: Bearer " + key.token(p.valid(claims{"sub": "bob"})), false, 403},
		{"auth where there was none", nil, bearing("two"), nothing, "Authorization: Bearer two", false, 401},
		{"auth that is gone", bearing("one"), nil, "Authorization: Bearer one", nothing, true, 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var next inbox
			o := route(&next)
			o.HTTP.Auth = tt.before
			i, h := serving(t, ingress.Options{Now: new(clock).now}, o)
			post := func(when, shown string, want int) {
				t.Helper()
				if got := do(h, "POST", eventPath, binaryWith(shown), nil).StatusCode; got != want {
					t.Errorf("%s: status of %.40q = %d, want %d", when, shown, got, want)
				}
			}
			post("before", tt.old, 202)
			o.HTTP.Auth = tt.after
			serve(t, i, o)
			post("after", tt.new, 202)
			if tt.oldStays {
				post("after", tt.old, 202)
			} else {
				post("after", tt.old, tt.refusal)
			}
		})
	}
}

func TestTheHandshakeIsOpen(t *testing.T) {
	var next inbox
	_, h := serving(t, ingress.Options{}, guarded(&next, bearer))
	response := do(h, "OPTIONS", eventPath, headers("WebHook-Request-Origin: sender.example"), nil)
	if got := response.Header.Get("WebHook-Allowed-Origin"); response.StatusCode != 200 || got != "sender.example" {
		t.Errorf("OPTIONS without a token = %d that allows %q, want 200 that allows sender.example", response.StatusCode, got)
	}
}

func TestASinkThatAnswersIsGuarded(t *testing.T) {
	calls := 0
	o := guarded(nil, bearer)
	o.Next, o.HTTP.RateLimit = nil, &plan.RateLimit{PerSecond: 1, Burst: 1}
	o.Call = reply(&calls, &ingress.Reply{Status: 401, Header: headers("WWW-Authenticate: Bearer realm=\"sink\""), Body: []byte("the sink's no")})
	_, h := serving(t, ingress.Options{Now: func() time.Time { return time.Unix(at, 0) }}, o)
	raw := func(token string) (int, string, string) {
		response := do(h, "POST", eventPath, headers("Authorization: Bearer "+token), strings.NewReader("a"))
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, response.Header.Get("WWW-Authenticate"), string(body)
	}
	if status, ask, _ := raw("wrong"); status != 401 || ask != `Bearer realm="/ns/es/e", error="invalid_token"` || calls != 0 {
		t.Errorf("a wrong token = %d with %q after %d calls, want our own 401 and no call", status, ask, calls)
	}
	if status, ask, body := raw("new-token"); status != 401 || ask != `Bearer realm="sink"` || body != "the sink's no" || calls != 1 {
		t.Errorf("a good token = %d %q with %q after %d calls, want the sink's answer after 1", status, body, ask, calls)
	}
	if status, _, _ := raw("new-token"); status != 429 || calls != 1 {
		t.Errorf("one above the limit = %d after %d calls, want 429 after 1", status, calls)
	}
}

func TestRoutesThatCannotBe(t *testing.T) {
	auth := func(a plan.HTTPAuth) plan.HTTP { return plan.HTTP{Auth: &a} }
	tests := []struct {
		name string
		http plan.HTTP
		want string
	}{
		{"a type that is no template", plan.HTTP{Type: "a${b}"}, "type: column 2: ${b} is not known: use ${header.NAME}, ${query.NAME} or ${data.PATH}"},
		{"a source that is no template", plan.HTTP{Source: "${"}, "source: column 1: ${ is not closed: write } after the name"},
		{"a subject that is no template", plan.HTTP{Subject: "\t"}, "subject: column 1: a character that no attribute may have: use printable ones, in UTF-8"},
		{"one id for all", plan.HTTP{ID: "1"}, "id: is the same for all events, which would be repeats of the first"},
		{"auth that says nothing", auth(plan.HTTPAuth{}), "auth: it says nothing: set one of bearer, basic, hmac or oidc"},
		{"no token", auth(plan.HTTPAuth{Bearer: &plan.Bearer{}}), "auth: bearer: its secret is empty: write one"},
		{"an empty token", auth(plan.HTTPAuth{Bearer: &plan.Bearer{Tokens: []string{"a", ""}}}), "auth: bearer: its secret is empty: write one"},
		{"no user name", auth(plan.HTTPAuth{Basic: &plan.Basic{Passwords: []string{"a"}}}), "auth: basic: user name: its secret is empty: write one"},
		{"no password", auth(plan.HTTPAuth{Basic: &plan.Basic{Username: "a"}}), "auth: basic: password: its secret is empty: write one"},
		{"no signing secret", auth(plan.HTTPAuth{HMAC: &plan.HMAC{Scheme: "github"}}), "auth: hmac: its secret is empty: write one"},
		{"an unknown scheme", auth(plan.HTTPAuth{HMAC: &plan.HMAC{Scheme: "x", Secrets: []string{"a"}}}), `auth: hmac: scheme "x" is not known: use github or stripe`},
		{"no audience", auth(plan.HTTPAuth{OIDC: &plan.OIDC{Issuer: "https://a"}}), "auth: oidc: issuer and audience are required: write both, or tokens for anyone would do"},
		{"an authority that is none", auth(plan.HTTPAuth{OIDC: &plan.OIDC{Issuer: "https://a", Audience: "b", CACerts: "c"}}), "auth: oidc: the CA certificates hold no PEM certificate"},
	}
	i := ingress.New(ingress.Options{})
	t.Cleanup(i.Close)
	for _, tt := range tests {
		o := route(nil)
		o.HTTP = tt.http
		if r, err := i.NewRoute(o); err == nil || err.Error() != tt.want || r != nil {
			t.Errorf("%s: NewRoute() = %v, %v, want nil, %q", tt.name, r, err, tt.want)
		}
	}
}
