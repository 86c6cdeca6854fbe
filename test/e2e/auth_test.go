//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/openfunction/events/test/servers"
)

const guarded = `
{apiVersion: v1, kind: Secret, metadata: {name: basic}, stringData: {user: "ann\n", password: "old-word\nnew-word\n"}}
---
{apiVersion: v1, kind: Secret, metadata: {name: issuer}, stringData: {ca.crt: %q}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: default}, spec: {embedded: {}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: guarded}, spec: {http: {
  bearer: {auth: {bearer: {tokenFrom: {name: token, key: token}}}},
  basic: {auth: {basic: {usernameFrom: {name: basic, key: user}, passwordFrom: {name: basic, key: password}}}},
  oidc: {auth: {oidc: {issuer: %q, audience: events, subjects: [ann], caCertFrom: {name: issuer, key: ca.crt}}}}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: t}, spec: {
  inputs: {bearer: {eventSource: guarded, event: bearer}, basic: {eventSource: guarded, event: basic}, oidc: {eventSource: guarded, event: oidc}},
  subscribers: [{condition: bearer || basic || oidc, sink: {ref: {apiVersion: v1, kind: Service, name: each}}}]}}
`

// TestE2EAuthentication shows every kind of credential, and changes one of them while 1,000 events a second pass.
func TestE2EAuthentication(t *testing.T) {
	const perSecond = 1000
	t.Parallel()
	s := newSink(t)
	issuer := newIssuer(t)
	file := write(t, "token.yaml", tokenSecret("old"))
	p := run(t, "-f", write(t, "guarded.yaml", fmt.Sprintf(guarded, issuer.ca, issuer.URL)), "-f", file, "--sink", "default/each="+s.URL)
	accepted := map[string]bool{}
	var mu sync.Mutex
	ask := func(event, id, authorization string) (int, string) {
		code, body := hook(p.url+"/default/guarded/"+event, "{}", "ce-specversion", "1.0", "ce-id", id, "ce-source", "/test", "ce-type", "test", "Authorization", authorization)
		if code == http.StatusAccepted {
			mu.Lock()
			defer mu.Unlock()
			accepted[id] = true
		}
		return code, body
	}
	basic := func(password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:"+password))
	}
	token := func(audience, subject string, lives time.Duration) string {
		return "Bearer " + issuer.token(map[string]any{"iss": issuer.URL, "aud": audience, "sub": subject, "exp": time.Now().Add(lives).Unix()})
	}
	for _, tt := range []struct {
		name, event, shown string
		want               int
	}{
		{"the old password", "basic", basic("old-word"), 202},
		{"the new password", "basic", basic("new-word"), 202},
		{"another password", "basic", basic("word"), 401},
		{"a token of the issuer", "oidc", token("events", "ann", time.Hour), 202},
		{"one of another subject", "oidc", token("events", "bob", time.Hour), 403},
		{"one for others", "oidc", token("mails", "ann", time.Hour), 401},
		{"one that has expired", "oidc", token("events", "ann", -time.Hour), 401},
		{"none", "oidc", "", 401},
	} {
		if code, body := ask(tt.event, tt.name, tt.shown); code != tt.want {
			t.Errorf("%s: status %d (%s), want %d", tt.name, code, body, tt.want)
		}
	}

	// A new token is accepted beside the old one, senders go over to it, and the old one is taken back: no sender is ever refused.
	var shown struct {
		sync.RWMutex
		token string
	}
	shown.token = "old"
	var sent atomic.Int64
	send := func(id string) {
		for t.Context().Err() == nil {
			shown.RLock()
			code, body := ask("bearer", id, "Bearer "+shown.token)
			shown.RUnlock()
			switch code {
			case http.StatusAccepted:
				sent.Add(1)
				return
			case http.StatusUnauthorized:
				t.Errorf("event %s: %s", id, body)
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	work, stop := make(chan string, perSecond), make(chan struct{})
	var senders sync.WaitGroup
	for range 16 {
		senders.Go(func() {
			for id := range work {
				send(id)
			}
		})
	}
	var due int64 // valid once the senders have ended
	go func() {
		defer close(work)
		ticker := time.NewTicker(time.Second / 100)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-t.Context().Done():
				return
			case <-ticker.C:
			}
			for range perSecond / 100 {
				work <- fmt.Sprint("e", due)
				due++
			}
		}
	}()
	passing := func() {
		t.Helper()
		before := sent.Load()
		eventually(t, 60*time.Second, "events pass", func() error {
			if n := sent.Load() - before; n < 2*perSecond {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
	}
	becomes := func(what, token string, want int) {
		t.Helper()
		eventually(t, 60*time.Second, what, func() error {
			if code, body := ask("bearer", what, "Bearer "+token); code != want {
				return fmt.Errorf("status %d (%s)", code, body)
			}
			return nil
		})
	}
	passing()
	replace(t, file, tokenSecret("old", "new"))
	becomes("the new token is taken", "new", 202)
	shown.Lock()
	shown.token = "new"
	shown.Unlock()
	passing()
	replace(t, file, tokenSecret("new"))
	becomes("the old token is not", "old", 401)
	passing()
	close(stop)
	senders.Wait()
	if got := sent.Load(); got != due {
		t.Errorf("%d events of %d were accepted while the token changed", got, due)
	}
	eventually(t, 60*time.Second, "what was accepted arrives", func() error {
		ids, missing := s.ids(), 0
		for id := range accepted {
			if ids[id] == 0 {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d are missing", missing, len(accepted))
		}
		return nil
	})
	for id := range s.ids() {
		if !accepted[id] && id[0] != 'e' { // a sender that got no answer does not know
			t.Errorf("event %q arrived and was refused", id)
		}
	}
	t.Logf("%d events while the token changed, lost 0", sent.Load())
}

func tokenSecret(tokens ...string) string {
	lines := ""
	for _, token := range tokens {
		lines += token + "\n"
	}
	return fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: token}, stringData: {token: %q}}\n", lines)
}

// replace puts a file in the place of another, so that nobody sees a half.
func replace(t *testing.T, file, text string) {
	t.Helper()
	err := errors.Join(os.WriteFile(file+".new", []byte(text), 0o600), os.Rename(file+".new", file))
	if err != nil {
		t.Fatal(err)
	}
}

// issuer is an OpenID Connect issuer.
type issuer struct {
	*httptest.Server
	ca    string
	token func(claims map[string]any) string
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	authority := servers.NewAuthority(t)
	own := authority.Server()
	cert, err := tls.X509KeyPair([]byte(own.Cert), []byte(own.Key))
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{ca: authority.Cert}
	i.token = func(claims map[string]any) string {
		payload, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		token, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	i.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var document any = map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys"}
		if r.URL.Path == "/keys" {
			document = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "1", Use: "sig", Algorithm: "ES256"}}}
		}
		_ = json.NewEncoder(w).Encode(document)
	}))
	i.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	i.StartTLS()
	t.Cleanup(i.Close)
	return i
}
