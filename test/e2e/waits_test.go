//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/test/servers"
)

const halfSecret = `
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: default}, spec: {embedded: {}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: lists}, spec: {redis: {
  first: {redisHost: %[1]q, list: first, redisPasswordFrom: {name: redis, key: first}},
  second: {redisHost: %[1]q, list: second, redisPasswordFrom: {name: redis, key: second}}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: kept}, spec: {jetStream: {url: %[2]q, username: events, passwordFrom: {name: nats, key: password}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: hooks}, spec: {eventBus: kept, http: {hook: {}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: lists}, spec: {
  inputs: {first: {eventSource: lists, event: first}, second: {eventSource: lists, event: second}},
  subscribers: [{condition: first || second, sink: {ref: {apiVersion: v1, kind: Service, name: each}}}]}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: hooks}, spec: {eventBus: kept, inputs: {hook: {eventSource: hooks, event: hook}},
  subscribers: [{condition: hook, sink: {ref: {apiVersion: v1, kind: Service, name: each}}}]}}
`

// TestE2EASecretWithoutAKeyStopsNothingElse has the password of one of two lists missing, and that of one of two buses: each is one line, all else
// delivers, and what waited is delivered when the Secrets are right.
func TestE2EASecretWithoutAKeyStopsNothingElse(t *testing.T) {
	t.Parallel() // the files are looked at twice a second
	server, s := servers.Redis(t, "requirepass passw0rd"), newSink(t)
	js := servers.JetStream(t, "authorization { user: events, password: passw0rd }")
	secrets := func(redis, nats string) string {
		return fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: redis}, stringData: {%s}}\n---\n{apiVersion: v1, kind: Secret, metadata: {name: nats}, stringData: {%s}}\n", redis, nats)
	}
	file := write(t, "secrets.yaml", secrets("first: passw0rd", "user: events"))
	objects := write(t, "half.yaml", fmt.Sprintf(halfSecret, server.Addr(), js.URL()))
	p := run(t, "-f", objects, "-f", file, "--sink", "default/each="+s.URL)
	client := server.ClientOf("", "passw0rd")
	push := func(list, data string) {
		t.Helper()
		if err := client.LPush(t.Context(), list, data).Err(); err != nil {
			t.Fatal(err)
		}
	}
	arrives := func(data string) {
		t.Helper()
		eventually(t, 60*time.Second, data+" at the sink", func() error {
			for _, e := range s.received() {
				if string(e.Data()) == data {
					return nil
				}
			}
			return fmt.Errorf("%d others", len(s.received()))
		})
	}
	push("first", `{"first":1}`)
	push("second", `{"second":1}`)
	arrives(`{"first":1}`)
	if code, body := post(p.url+"/default/hooks/hook", "h1", "application/json", []byte(`{"hook":1}`)); code != http.StatusServiceUnavailable ||
		!strings.Contains(body, "EventBus default/kept cannot be used") {
		t.Errorf("a post to the bus that waits is answered %d %s, want 503 and why", code, body)
	}
	wantLines := func(n int, text string) {
		t.Helper()
		eventually(t, 60*time.Second, fmt.Sprintf("%d lines with %q", n, text), func() error {
			if lines := p.logged(text); len(lines) != n {
				return fmt.Errorf("%d", len(lines))
			}
			return nil
		})
	}
	for _, want := range []string{
		`"object": "EventSource default/lists", "at": "%s:6", "error": "spec.redis[second].redisPasswordFrom: key \"second\" of Secret default/redis: the Secret has no such key (it has first): add it in %s`,
		`"object": "EventBus default/kept", "at": "%s:8", "error": "spec.jetStream.passwordFrom: key \"password\" of Secret default/nats: the Secret has no such key (it has user): add it in %s`,
	} {
		wantLines(1, fmt.Sprintf(want, objects, file))
	}
	wantLines(2, "ERROR")
	wantLines(1, "not running, for want of a Secret: EventBus default/kept, EventSource default/hooks http event hook, EventSource default/lists redis event second, Trigger default/hooks")
	if code, body := get(p.url + "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "EventSource default/lists redis event second: does not run") {
		t.Errorf("/readyz = %d %s, want 503 and what does not run", code, body)
	}

	if err := os.WriteFile(file, []byte(secrets("first: passw0rd, second: passw0rd", "password: passw0rd")), 0o600); err != nil {
		t.Fatal(err)
	}
	arrives(`{"second":1}`)
	publish(t, func() string { return p.url + "/default/hooks/hook" }, "h2", []byte(`{"hook":2}`))
	arrives(`{"hook":2}`)
	push("first", `{"first":2}`)
	arrives(`{"first":2}`)
	eventually(t, 60*time.Second, "ready", func() error {
		if code, body := get(p.url + "/readyz"); code != http.StatusOK {
			return errors.New(body)
		}
		return nil
	})

	if err := os.WriteFile(file, []byte(secrets("third: x", "third: x")), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "the files are applied", func() error {
		if n := len(p.logged("applied: 3 sources, 2 subscribers")); n != 2 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	wantLines(2, "an object has lost a Secret: it goes on as it was")
	wantLines(4, "ERROR")
	push("second", `{"second":3}`)
	publish(t, func() string { return p.url + "/default/hooks/hook" }, "h3", []byte(`{"hook":3}`))
	arrives(`{"second":3}`)
	arrives(`{"hook":3}`)
	if code := p.terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
