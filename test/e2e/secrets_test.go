//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/openfunction/events/test/servers"
)

// planted is the value of every credential but keys. No server knows it.
const planted = "pl4nted-s3cret"

const secretive = `
{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {value: %[1]s, seed: SU%[1]s, creds: "-----BEGIN NATS USER JWT-----\n%[1]s\n",
  url: "http://me:%[1]s-url@%[4]s/in-%[1]s?token=%[1]s-query", userSeed: %[6]q, userCreds: "-----BEGIN NATS USER JWT-----\ne30.%[1]s.e30\n------END NATS USER JWT------\n-----BEGIN USER NKEY SEED-----\n%[6]s\n------END USER NKEY SEED------\n",
  tls.crt: %[7]q, tls.key: %[8]q}}
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
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: user-seed}, spec: {jetStream: {url: %[2]q, nkeySeedFrom: {name: s, key: userSeed}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: user-creds}, spec: {jetStream: {url: %[2]q, credentialsFrom: {name: s, key: userCreds}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: nats-key}, spec: {jetStream: {url: %[2]q, tls: {clientCertFrom: {name: s, key: tls.crt}, clientKeyFrom: {name: s, key: tls.key}}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: kafka-key}, spec: {kafka: {brokers: %[5]q, tls: {clientCertFrom: {name: s, key: tls.crt}, clientKeyFrom: {name: s, key: tls.key}}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: sasl}, spec: {kafka: {brokers: "127.0.0.1:1", authRequired: true, saslUsername: u, saslPasswordFrom: {name: s, key: value}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: works}, spec: {embedded: {}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: works}, spec: {eventBus: works,
  http: {
    bearer: {auth: {bearer: {tokenFrom: {name: s, key: value}}}},
    basic: {auth: {basic: {username: u, passwordFrom: {name: s, key: value}}}},
    hub: {raw: true, type: hub, auth: {hmac: {scheme: github, secretFrom: {name: s, key: value}}}},
    bill: {raw: true, type: bill, auth: {hmac: {scheme: stripe, secretFrom: {name: s, key: value}}}}},
  redis: {
    node: {redisHost: %[5]q, stream: r, redisPasswordFrom: {name: s, key: value}},
    inline: {redisHost: %[5]q, channel: r, redisUsername: u, redisPassword: %[1]s},
    sentinel: {redisHost: %[5]q, list: r, failover: true, sentinelMasterName: m, redisPasswordFrom: {name: s, key: value}, sentinelPasswordFrom: {name: s, key: value}},
    key: {redisHost: %[5]q, stream: r, tls: {clientCertFrom: {name: s, key: tls.crt}, clientKeyFrom: {name: s, key: tls.key}}}},
  mqtt: {
    password: {url: "tcp://%[5]s", topic: m, username: u, passwordFrom: {name: s, key: value}},
    key: {url: "ssl://%[5]s", topic: m, clientCertFrom: {name: s, key: tls.crt}, clientKeyFrom: {name: s, key: tls.key}},
    inline: {url: "ssl://%[5]s", topic: m, clientCertFrom: {name: s, key: tls.crt}, clientKey: %[8]q}},
  kafka: {
    key: {brokers: %[5]q, topic: t, tls: {clientCertFrom: {name: s, key: tls.crt}, clientKeyFrom: {name: s, key: tls.key}}},
    from: {brokers: "127.0.0.1:1", topic: t, authRequired: true, saslUsername: u, saslPasswordFrom: {name: s, key: value}},
    inline: {brokers: "127.0.0.1:1", topic: t, authRequired: true, saslUsername: u, saslPassword: %[1]s}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: t}, spec: {eventBus: works, inputs: {i: {eventSource: works, event: bearer}},
  subscribers: [{condition: i, sink: {uri: "http://me:%[1]s-url@%[4]s/in?token=%[1]s-query"}, delivery: {retry: 0}}]}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: from}, spec: {eventBus: works, inputs: {i: {eventSource: works, event: bearer}},
  subscribers: [{condition: i, sink: {uriFrom: {name: s, key: url}}, delivery: {retry: 0}}]}}
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
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	client := servers.NewAuthority(t).Client("u")
	yaml := fmt.Sprintf(secretive, planted, js.URL(), strings.Replace(js.URL(), "nats://", "nats://events:"+planted+"@", 1), sink.Listener.Addr(),
		parrot(t), seed, client.Cert, client.Key)
	buses := []string{"refused", "seed", "creds", "in-url", "stan", "kafka", "user-seed", "user-creds", "nats-key", "kafka-key", "sasl"}
	sources := []string{"redis event node", "redis event inline", "redis event sentinel", "redis event key", "mqtt event password", "mqtt event key",
		"mqtt event inline", "kafka event key", "kafka event from", "kafka event inline"}
	for _, bus := range buses {
		yaml += fmt.Sprintf("---\n{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: on-%s}, spec: {eventBus: %[1]s, http: {e: {}}}}\n", bus)
	}
	metrics := servers.FreeAddress(t)
	p := run(t, "-f", write(t, "secretive.yaml", yaml), "--log-level", "debug", "--metrics", metrics)
	answers := map[string]string{}
	ask := func(what, path, credential string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, p.url+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"ce-specversion": "1.0", "ce-id": "e", "ce-source": "/test", "ce-type": "test", "Content-Type": "application/json", "Authorization": credential,
			"Stripe-Signature": "t=1,v1=" + credential, "X-Hub-Signature-256": "sha256=" + credential,
		} {
			req.Header.Set(name, value)
		}
		code, body := do(req)
		answers[what] = fmt.Sprint(code, " ", body)
	}
	eventually(t, 60*time.Second, "why each bus and source is away", func() error {
		_, body := get(p.url + "/readyz")
		answers["/readyz"] = body
		for _, bus := range buses {
			if !strings.Contains(body, "EventBus default/"+bus+" is unavailable") || strings.Contains(body, "not connected yet") {
				return fmt.Errorf("it says %s", body)
			}
		}
		for _, source := range sources {
			if !strings.Contains(body, "EventSource default/works "+source+": ") || strings.Contains(body, source+": starting") {
				return fmt.Errorf("it says nothing of %s: %s", source, body)
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
	ask("with the secret for GitHub's signature", "/default/works/hub", planted)
	ask("with the secret for Stripe's signature", "/default/works/bill", planted)
	if got := answers["with the token"]; !strings.HasPrefix(got, "202") {
		t.Errorf("with the right token: %s", got)
	}
	eventually(t, 60*time.Second, "the dead letter", func() error {
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
	eventually(t, 30*time.Second, "the dead letter of a URL in a Secret", func() error {
		letters := p.deliveries("deadletter topic openfunction.default.trigger.from.deadletter")
		if len(letters) == 0 {
			return fmt.Errorf("none")
		}
		var letter struct {
			Dest string `json:"knativeerrordest"`
			Data []byte `json:"knativeerrordata"`
		}
		if err := json.Unmarshal(letters[0].Event, &letter); err != nil {
			return err
		}
		if want := "sink of Secret default/s, key url"; letter.Dest != want {
			t.Errorf("the letter is of %s, want %s", letter.Dest, want)
		}
		answers["the dead letter of a URL in a Secret"] = string(letters[0].Event) + string(letter.Data)
		return nil
	})
	if _, answers["/metrics"] = get("http://" + metrics + "/metrics"); !strings.Contains(answers["/metrics"], "openfunction_dead_letters_total{") {
		t.Errorf("the metrics are %s", answers["/metrics"])
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	answers["the log"] = strings.Join(p.logged(""), "\n")
	if !strings.Contains(answers["the dead letter"], "the token is ***, and I was asked POST /in?***") {
		t.Errorf("the dead letter does not say what the sink did: %s", answers["the dead letter"])
	}
	secrets := []string{planted, base64.StdEncoding.EncodeToString([]byte("me:" + planted + "-url")), string(seed)}
	key := strings.Split(strings.TrimSpace(client.Key), "\n")
	secrets = append(secrets, key[1:len(key)-1]...)
	for where, said := range answers {
		for _, secret := range secrets {
			if strings.Contains(said, secret) {
				t.Errorf("%s shows %s: %s", where, secret, said)
			}
		}
	}
}

// parrot is a server of no protocol, which repeats what it is told in an error of Redis.
func parrot(t *testing.T) string {
	t.Helper()
	return servers.NewStranger(t, "127.0.0.1:0", func(conn net.Conn) {
		heard := make([]byte, 4096)
		for {
			n, err := conn.Read(heard)
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(conn, "-ERR you said %s\r\n", strings.ReplaceAll(string(heard[:n]), "\r\n", " "))
		}
	}).Addr()
}

func get(url string) (int, string) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, err.Error()
	}
	return do(req)
}
