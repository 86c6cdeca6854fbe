//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
)

const secretSink = `
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: default}, spec: {embedded: {}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: es}, spec: {http: {e: {}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: both}, spec: {eventBus: default, sink: {uriFrom: {name: hook, key: url}}, http: {e: {}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: call}, spec: {sink: {uriFrom: {name: hook, key: url}}, http: {e: {}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: t}, spec: {inputs: {e: {eventSource: es, event: e}}, subscribers: [
  {condition: e, sink: {uriFrom: {name: hook, key: url}}, delivery: {retry: 1000, backoffPolicy: linear, backoffDelay: PT0.05S}}]}}
`

// TestE2ETheURLOfASinkIsRotated has the URL missing, wrong, and then changed while events pass and wait, also while the program does not run, and missing again when it starts: none is
// lost, and nothing that is said shows a URL.
func TestE2ETheURLOfASinkIsRotated(t *testing.T) {
	t.Parallel() // the files are looked at twice a second
	first, second, third := newSink(t), newSink(t), newSink(t)
	away := func(w http.ResponseWriter, _ *event.Event) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return false
	}
	first.set(away)
	file := write(t, "secret.yaml", "{apiVersion: v1, kind: Secret, metadata: {name: hook}, stringData: {}}\n")
	holds := func(url string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: hook}, stringData: {url: %q}}\n", url)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-f", write(t, "path.yaml", secretSink), "-f", file, "--data", t.TempDir()}
	var said strings.Builder
	p := run(t, args...)
	says := func(text string) {
		t.Helper()
		eventually(t, 60*time.Second, text, func() error {
			if len(p.logged(text)) == 0 {
				return fmt.Errorf("the log is %s", p.log())
			}
			return nil
		})
	}
	says("not running, for want of a Secret: EventSource default/both http event e, EventSource default/call http event e, Trigger default/t")
	if code, body := post(p.url+"/default/call/e", "none", "text/plain", nil); code != http.StatusServiceUnavailable || !strings.Contains(body, "spec.sink.uriFrom cannot be used") || strings.Contains(body, "hook") {
		t.Errorf("a call of a sink that is not known is answered %d %s, want 503 and the field only", code, body)
	}
	holds("ftp://pl4nted/in")
	says(`spec.subscribers[0].sink.uriFrom: key \"url\" of Secret default/hook is not an http or https URL`)
	holds(first.URL + "/pl4nted-first")
	says("applied: 3 sources, 2 subscribers")
	var sent []string
	n := 0 // of all, since a repeat is recognised by its id
	send := func(source string) {
		t.Helper()
		for range 20 {
			n++
			id := fmt.Sprintf("%s-%d", source, n)
			publish(t, func() string { return p.url + "/default/" + source + "/e" }, id, []byte("x"))
			sent = append(sent, id)
		}
	}
	arrived := func(s *sink) {
		t.Helper()
		eventually(t, 60*time.Second, "every event at the sink", func() error {
			ids := s.ids()
			for _, id := range sent {
				if ids[id] == 0 {
					return fmt.Errorf("%s is missing, and %d of %d are there", id, len(ids), len(sent))
				}
			}
			return nil
		})
	}
	send("es")
	send("both")
	if code, body := post(p.url+"/default/call/e", "refused", "text/plain", nil); code != http.StatusServiceUnavailable || body != "" {
		t.Errorf("a call is answered %d %s, want the sink's 503", code, body)
	}
	holds("pl4nted is no URL")
	says("an object has lost a Secret: it goes on as it was")
	send("es")
	holds(second.URL + "/pl4nted-second")
	send("es")
	send("both")
	arrived(second)

	second.set(away)
	sent = nil
	send("es")
	send("both")
	said.WriteString(p.log())
	p.kill()
	holds("pl4nted is no URL") // and the program starts
	p = run(t, args...)
	says("not running, for want of a Secret: EventSource default/both sink, EventSource default/call http event e, Trigger default/t")
	send("es")
	send("both")
	said.WriteString(p.log())
	p.kill()
	p = run(t, args...)
	says("not running, for want of a Secret")
	holds(third.URL + "/pl4nted-third")
	arrived(third)
	if code, body := post(p.url+"/default/call/e", "called", "text/plain", nil); code != http.StatusOK {
		t.Errorf("a call is answered %d %s, want the sink's 200", code, body)
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	said.WriteString(p.log())
	if strings.Contains(said.String(), "pl4nted") {
		t.Errorf("the log shows a URL: %s", said.String())
	}
}
