package standalone

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/plan"
)

func TestNotReadyIsShort(t *testing.T) {
	var errs []error
	errs = append(errs, errors.New("EventBus a/b: EventBus a/b is unavailable: connection refused"))
	for range shownParts + 1 {
		errs = append(errs, errors.New("EventSource a/b kafka event c: no such host"), errors.New("Trigger a/b subscriber c: starting"))
	}
	got := notReady(errors.Join(errs...))
	want := []string{"EventBus a/b is unavailable: connection refused"}
	for range shownParts - 1 {
		want = append(want, "EventSource a/b kafka event c: no such host")
	}
	want = append(want, "... and 2 more", "11 parts starting")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("notReady() (-want +got):\n%s", diff)
	}
}

func TestTriesShowWhatIsAskedFor(t *testing.T) {
	const secret = "planted-secret"
	for _, tt := range []struct {
		auth plan.HTTPAuth
		want string
	}{
		{plan.HTTPAuth{Bearer: &plan.Bearer{Tokens: []string{secret}}}, `-H "Authorization: Bearer $TOKEN" http://h:80/ns/es/e`},
		{plan.HTTPAuth{OIDC: &plan.OIDC{Issuer: "https://i"}}, `-H "Authorization: Bearer $TOKEN" http://h:80/ns/es/e`},
		{plan.HTTPAuth{Basic: &plan.Basic{Username: secret, Passwords: []string{secret}}}, `-u USER http://h:80/ns/es/e`},
		{plan.HTTPAuth{HMAC: &plan.HMAC{Scheme: "github", Secrets: []string{secret}}},
			`http://h:80/ns/es/e # answers 401 until it is signed, in the header X-Hub-Signature-256`},
		{plan.HTTPAuth{HMAC: &plan.HMAC{Scheme: "stripe", Secrets: []string{secret}}},
			`http://h:80/ns/es/e # answers 401 until it is signed, in the header Stripe-Signature`},
	} {
		p := &plan.Plan{Sources: []plan.Source{{Namespace: "ns", EventSource: "es", Event: "e", HTTP: &plan.HTTP{Raw: true, Auth: &tt.auth}}}}
		if got := tries(p, "h:80"); len(got) != 1 || !strings.HasSuffix(got[0], "json' "+tt.want) || strings.Contains(got[0], secret) {
			t.Errorf("tries() = %v, want one that ends with %s", got, tt.want)
		}
	}
}

func TestTriesCanBeCopied(t *testing.T) {
	p := &plan.Plan{Sources: []plan.Source{{Namespace: "ns", EventSource: "es", Event: "e", HTTP: &plan.HTTP{Raw: true}}}}
	for addr, want := range map[string]string{"[::]:80": "http://127.0.0.1:80/", "0.0.0.0:80": "http://127.0.0.1:80/", "[::1]:80": "http://[::1]:80/"} {
		if got := tries(p, addr); len(got) != 1 || !strings.HasSuffix(got[0], want+"ns/es/e") {
			t.Errorf("tries(%s) = %v, want one to %s", addr, got, want)
		}
	}
}
