//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/test/servers"
)

// planted is the value of every credential. No server knows it.
const planted = "pl4nted-s3cret"

const secretive = `
{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {value: %[1]s, seed: SU%[1]s, creds: "-----BEGIN NATS USER JWT-----\n%[1]s\n"}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: refused}, spec: {jetStream: {url: %[2]q, username: events, passwordFrom: {name: s, key: value}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: seed}, spec: {jetStream: {url: %[2]q, nkeySeedFrom: {name: s, key: seed}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: creds}, spec: {jetStream: {url: %[2]q, credentialsFrom: {name: s, key: creds}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: in-url}, spec: {jetStream: {url: %[3]q}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: stan}, spec: {natsStreaming: {natsURL: %[2]q, natsStreamingClusterID: stan, tokenFrom: {name: s, key: value}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: kafka}, spec: {kafka: {
  brokers: "127.0.0.1:1", authRequired: true, saslMechanism: OAUTHBEARER, saslOAuth: {tokenURL: "https://127.0.0.1:1/token", clientID: c, clientSecretFrom: {name: s, key: value}}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: works}, spec: {embedded: {}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: works}, spec: {eventBus: works,
  http: {
    bearer: {auth: {bearer: {tokenFrom: {name: s, key: value}}}},
    basic: {auth: {basic: {username: u, passwordFrom: {name: s, key: value}}}},
    hub: {raw: true, type: hub, auth: {hmac: {scheme: github, secretFrom: {name: s, key: value}}}}},
  kafka: {
    from: {brokers: "127.0.0.1:1", topic: t, authRequired: true, saslUsername: u, saslPasswordFrom: {name: s, key: value}},
    inline: {brokers: "127.0.0.1:1", topic: t, authRequired: true, saslUsername: u, saslPassword: %[1]s}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: t}, spec: {eventBus: works, inputs: {i: {eventSource: works, event: bearer}},
  subscribers: [{condition: i, sink: {uri: "http://me:%[1]s-url@%[4]s/in?token=%[1]s-query"}, delivery: {retry: 0}}]}}
`

// TestE2ENoCredentialIsShown has every kind of credential used, and refused, and looks for it in all that the program says.
func TestE2ENoCredentialIsShown(t *testing.T) {
	js := servers.JetStream(t, "authorization { user: events, password: another }")
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // says all it knows
		dump, _ := httputil.DumpRequest(r, true)
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = fmt.Fprintf(w, "the token is %s, and I was asked %s", planted, dump)
	}))
	defer sink.Close()
	yaml := fmt.Sprintf(secretive, planted, js.URL(), strings.Replace(js.URL(), "nats://", "nats://events:"+planted+"@", 1), sink.Listener.Addr())
	buses := []string{"refused", "seed", "creds", "in-url", "stan", "kafka"}
	for _, bus := range buses {
		yaml += fmt.Sprintf("---\n{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: on-%s}, spec: {eventBus: %[1]s, http: {e: {}}}}\n", bus)
	}
	p := run(t, "-f", write(t, "secretive.yaml", yaml))
	answers := map[string]string{}
	ask := func(what, path, credential string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, p.url+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"ce-specversion": "1.0", "ce-id": "e", "ce-source": "/test", "ce-type": "test", "Content-Type": "application/json", "Authorization": credential,
		} {
			req.Header.Set(name, value)
		}
		code, body := do(req)
		answers[what] = fmt.Sprint(code, " ", body)
	}
	eventually(t, 30*time.Second, "why each bus is away", func() error {
		_, body := get(p.url + "/readyz")
		answers["/readyz"] = body
		for _, bus := range buses {
			if !strings.Contains(body, "EventBus default/"+bus+" is unavailable") || strings.Contains(body, "not connected yet") {
				return fmt.Errorf("it says %s", body)
			}
		}
		return nil
	})
	for _, bus := range buses {
		ask("on "+bus, "/default/on-"+bus+"/e", "")
	}
	ask("with the token", "/default/works/bearer", "Bearer "+planted)
	ask("with another token", "/default/works/bearer", "Bearer x"+planted)
	ask("with another password", "/default/works/basic", "Basic "+base64.StdEncoding.EncodeToString([]byte("u:x"+planted)))
	ask("without a signature", "/default/works/hub", "")
	if got := answers["with the token"]; !strings.HasPrefix(got, "202") {
		t.Errorf("with the right token: %s", got)
	}
	eventually(t, 30*time.Second, "the dead letter", func() error {
		letters := p.deliveries("deadletter topic openfunction.default.trigger.t.deadletter")
		if len(letters) == 0 {
			return fmt.Errorf("none")
		}
		var letter struct {
			Data []byte `json:"knativeerrordata"`
		}
		if err := json.Unmarshal(letters[0].Event, &letter); err != nil {
			return err
		}
		answers["the dead letter"] = string(letters[0].Event) + string(letter.Data)
		return nil
	})
	if code := p.terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	answers["the log"] = p.log()
	if !strings.Contains(answers["the dead letter"], "the token is ***, and I was asked POST /in?***") {
		t.Errorf("the dead letter does not say what the sink did: %s", answers["the dead letter"])
	}
	basic := base64.StdEncoding.EncodeToString([]byte("me:" + planted + "-url"))
	for where, said := range answers {
		if strings.Contains(said, planted) || strings.Contains(said, basic) {
			t.Errorf("%s shows it: %s", where, said)
		}
	}
}

func get(url string) (int, string) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, err.Error()
	}
	return do(req)
}
