//go:build e2e

package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
)

const hooksTrigger = `
kind: Trigger
apiVersion: events.openfunction.io/v1alpha1
metadata: {name: hooks}
spec:
  inputs:
    github: {eventSource: webhooks, event: github}
    stripe: {eventSource: webhooks, event: stripe}
  subscribers:
  - condition: github || stripe
    topic: hooks
`

// hook posts a body as a webhook's sender does.
func hook(url, body string, headers ...string) (int, string) {
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return do(req)
}

func sign(secret, text string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// stripe is the header of https://docs.stripe.com/webhooks#verify-manually.
func stripe(secret, body string, at time.Time) string {
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), sign(secret, fmt.Sprintf("%d.%s", at.Unix(), body)))
}

func TestE2EWebhooks(t *testing.T) {
	p := run(t, "-f", "../../docs/examples/eventsource-webhooks.yaml", "-f", write(t, "trigger.yaml", hooksTrigger))
	github, stripeURL := p.url+"/default/webhooks/github", p.url+"/default/webhooks/stripe"
	const (
		key    = "It's a Secret to Everybody"
		charge = `{"id":"evt_1","type":"charge.succeeded","data":{"object":{"amount":100}}}`
		push   = `{"repository":{"full_name":"octo/cat"}}`
		// https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation
		documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
	)
	eventually(t, 60*time.Second, "GitHub's documented example is taken", func() error {
		if code, body := hook(github, "Hello, World!", "X-Hub-Signature-256", documented, "X-GitHub-Delivery", "d-1"); code != http.StatusAccepted {
			return fmt.Errorf("status %d: %s", code, body)
		}
		return nil
	})
	now := time.Now()
	for _, tt := range []struct {
		name, url, body string
		headers         []string
		want            int
	}{
		{"a push", github, push, []string{"X-Hub-Signature-256", "sha256=" + sign(key, push), "X-GitHub-Event", "push", "X-GitHub-Delivery", "d-2"}, 202},
		{"the same push again", github, push, []string{"X-Hub-Signature-256", "sha256=" + sign(key, push), "X-GitHub-Event", "push", "X-GitHub-Delivery", "d-2"}, 202},
		{"a charge", stripeURL, charge, []string{"Stripe-Signature", stripe("whsec_change_me", charge, now)}, 202},
		{"another body", github, push + " ", []string{"X-Hub-Signature-256", "sha256=" + sign(key, push)}, 401},
		{"another secret", github, push, []string{"X-Hub-Signature-256", "sha256=" + sign("guess", push)}, 401},
		{"no signature", github, push, nil, 401},
		{"a charge that was recorded ten minutes ago", stripeURL, charge, []string{"Stripe-Signature", stripe("whsec_change_me", charge, now.Add(-10*time.Minute))}, 401},
		{"a charge with another secret", stripeURL, charge, []string{"Stripe-Signature", stripe("guess", charge, now)}, 401},
		{"one sender's signature for the other", stripeURL, push, []string{"X-Hub-Signature-256", "sha256=" + sign(key, push)}, 401},
	} {
		if code, body := hook(tt.url, tt.body, tt.headers...); code != tt.want {
			t.Errorf("%s: status %d (%s), want %d", tt.name, code, body, tt.want)
		}
	}
	eventually(t, 60*time.Second, "three events arrive", func() error {
		if n := len(p.deliveries("topic hooks")); n < 3 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	time.Sleep(time.Second) // for what must not arrive
	got := map[string]*event.Event{}
	for _, d := range p.deliveries("topic hooks") {
		e, err := event.ParseStructured(d.Event)
		if err != nil {
			t.Fatal(err)
		}
		if got[e.ID()] != nil {
			t.Errorf("event %s arrived twice", e.ID())
		}
		got[e.ID()] = e
	}
	for id, want := range map[string]string{
		"d-1":   "com.github. https://github.com/",
		"d-2":   "com.github.push https://github.com/octo/cat",
		"evt_1": "com.stripe.charge.succeeded /namespaces/default/eventsources/webhooks/stripe",
	} {
		if e := got[id]; e == nil || e.Type()+" "+e.Source() != want {
			t.Errorf("event %s is %v, want type and source %s", id, e, want)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d events arrived, want 3", len(got))
	}
}
