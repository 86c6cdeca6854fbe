package standalone

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/openfunction/events/test/servers"
)

// twoSources declares one that needs no Secret, s, and one that does, g, with an event that does not; and a Trigger of all three.
const twoSources = `
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default}
spec: {embedded: {}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: s}
spec: {http: {a: {raw: true}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: g}
spec:
  http:
    open: {raw: true}
    guarded: {raw: true, auth: {basic: {usernameFrom: {name: who, key: user}, passwordFrom: {name: who, key: password}}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t}
spec:
  inputs: {a: {eventSource: s, event: a}, open: {eventSource: g, event: open}, guarded: {eventSource: g, event: guarded}}
  subscribers: [{condition: a || open || guarded, topic: m}]
---
apiVersion: v1
kind: Secret
metadata: {name: who}
stringData: {%s}
`

// ask posts as the user u and returns the status and the answer.
func ask(t *testing.T, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.SetBasicAuth("u", "p")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(text)
}

func TestWhatLacksASecretWaitsAndAllElseRuns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	declare := func(secret string) { write(t, file, fmt.Sprintf(twoSources, secret)) }
	declare("name: u")
	p := start(t, Options{Paths: []string{file}})
	base := p.stderr.wait(t, `^listening on (http://\S+)$`)[1]
	wants := func(event, body string, status int, says string) {
		t.Helper()
		if got, said := ask(t, base+"/default/"+event, body); got != status || !strings.Contains(said, says) {
			t.Errorf("POST %s = %d %s, want %d %s", event, got, said, status, says)
		}
		if status == http.StatusAccepted {
			p.stdout.wait(t, `"data":`+regexp.QuoteMeta(body))
		}
	}
	said := func(level string) int { return strings.Count(p.stderr.String(), `"level":"`+level+`"`) }
	p.stderr.wait(t, `"msg":"an object does not start: [^"]*","object":"EventSource default/g","at":"`+regexp.QuoteMeta(file)+`:18","error":"`+
		`spec\.http\[guarded\]\.auth\.basic\.passwordFrom: key \\"password\\" of Secret default/who: the Secret has no such key \(it has name\): add it in `+regexp.QuoteMeta(file)+
		`, or correct the key; spec\.http\[guarded\]\.auth\.basic\.usernameFrom: key \\"user\\" of Secret`)
	p.stderr.wait(t, `^not running, for want of a Secret: EventSource default/g http event guarded$`)
	if strings.Contains(p.stderr.String(), "/g/guarded\n") {
		t.Errorf("it is offered to try:\n%s", &p.stderr)
	}
	wants("s/a", `{"a":1}`, http.StatusAccepted, "")
	wants("g/open", `{"open":1}`, http.StatusAccepted, "")
	wants("g/guarded", `{"guarded":1}`, http.StatusServiceUnavailable, "spec.http[guarded].auth.basic")
	readyz := func(status int, says string) {
		t.Helper()
		response, err := http.Get(base + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if text, _ := io.ReadAll(response.Body); response.StatusCode != status || string(text) != says+"\n" {
			t.Errorf("/readyz = %d %s, want %d %s", response.StatusCode, text, status, says)
		}
	}
	readyz(http.StatusServiceUnavailable, "EventSource default/g http event guarded: does not run, for want of a Secret")

	declare("name: u, more: x") // still not
	p.stderr.wait(t, `^applied: 2 sources, 1 subscriber\nnot running`)
	declare("user: u, password: p")
	p.stderr.wait(t, `^applied: 3 sources, 1 subscriber\n`)
	wants("g/guarded", `{"guarded":2}`, http.StatusAccepted, "")
	if n := said("error"); n != 2 { // another list of keys
		t.Errorf("%d errors, want 2:\n%s", n, &p.stderr)
	}

	declare("user: u")
	p.stderr.wait(t, `"msg":"an object has lost a Secret: [^"]*","object":"EventSource default/g".*passwordFrom`)
	wants("g/guarded", `{"guarded":3}`, http.StatusAccepted, "")
	wants("s/a", `{"a":3}`, http.StatusAccepted, "")
	readyz(http.StatusOK, "ok")
	if n := strings.Count(p.stderr.String(), "not running"); n != 2 {
		t.Errorf("%d times not running, want 2:\n%s", n, &p.stderr)
	}
	if n := said("error"); n != 3 {
		t.Errorf("%d errors, want 3:\n%s", n, &p.stderr)
	}
}

func TestACertificateThatIsNoneStopsNothingElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	write(t, file, fmt.Sprintf(twoSources, "user: u, password: p, ca: none")+`---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: k}
spec: {kafka: {e: {brokers: "127.0.0.1:1", tls: {caCertFrom: {name: who, key: ca}}}}}
`)
	p := start(t, Options{Paths: []string{file}})
	p.stderr.wait(t, `"object":"EventSource default/k",.*"error":"spec\.kafka\[e\]\.tls: the CA certificates hold no PEM certificate: correct key \\"ca\\" of Secret default/who"`)
	p.stderr.wait(t, `^not running, for want of a Secret: EventSource default/k kafka event e$`)
	p.posts(t, "all else")
}

func TestRunOfNothingButWhatWaitsForSecrets(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "f.yaml", onSecuredBus("nats://127.0.0.1:1", "http://127.0.0.1:1", "no: thing"))
	var stdout, stderr output
	err := Run(t.Context(), Options{Paths: []string{"f.yaml"}, Listen: "127.0.0.1:0", Sinks: &Sinks{}, Addresses: &Addresses{}, Stdout: &stdout, Stderr: &stderr})
	want := `f.yaml:5: EventBus default/secured: spec.jetStream.passwordFrom: key "password" of Secret default/nats: the Secret has no such key (it has no): add it in f.yaml, or correct the key
nothing to run: all that is declared waits for a Secret`
	if _, ok := errors.AsType[*InvalidError](err); !ok || err.Error() != want {
		t.Errorf("Run() = %v\nwant %s", err, want)
	}
	if got := stdout.String() + stderr.String(); got != "" {
		t.Errorf("Run() printed %q", got)
	}
}

// onSecuredBus declares a source and a Trigger on a bus with a password, which is in a Secret.
func onSecuredBus(url, sink, secret string) string {
	return fmt.Sprintf(`
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: secured}
spec: {jetStream: {url: %q, username: u, passwordFrom: {name: nats, key: password}}}
---
apiVersion: v1
kind: Secret
metadata: {name: nats}
stringData: {%s}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: s}
spec: {eventBus: secured, http: {a: {raw: true}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t}
spec:
  eventBus: secured
  inputs: {a: {eventSource: s, event: a}}
  subscribers: [{condition: a, sink: {uri: "%s/x"}}]
`, url, secret, sink)
}

// secured starts a JetStream server that lets in the user u with the password p, and returns its URL.
func secured(t *testing.T) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: servers.FreePort(t), JetStream: true, StoreDir: t.TempDir(), NoSigs: true, Username: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s.ClientURL()
}

// ready waits until all that is declared runs, a connection to a broker among it, and returns where the ingress listens.
func (p *process) ready(t *testing.T) string {
	t.Helper()
	base := p.stderr.wait(t, `^listening on (http://\S+)$`)[1]
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		response, err := http.Get(base + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return base
		}
	}
	t.Fatalf("not ready:\n%s", &p.stderr)
	return ""
}

// What waits on the broker under an inherited name is delivered, although the process has restarted without the password and the target was
// edited once more meanwhile.
func TestWhatWaitsOnABusOutlivesARestartWithoutItsSecret(t *testing.T) {
	url := secured(t)
	file, data := filepath.Join(t.TempDir(), "f.yaml"), t.TempDir()
	first, second, good := newCollector(t, false), newCollector(t, false), newCollector(t, true)
	declare := func(sink *collector, secret string) {
		write(t, file, onSecuredBus(url, sink.URL, secret)+`---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: direct}
spec: {sink: {uri: "http://127.0.0.1:1"}, http: {a: {raw: true}}}
`)
	}
	var bodies []string
	declare(first, "password: p")
	t.Run("with the password", func(t *testing.T) {
		p := start(t, Options{Paths: []string{file}, DataDir: data})
		p.ready(t)
		bodies = append(bodies, p.posts(t, "one")...)
		declare(second, "password: p")
		p.stderr.wait(t, `^applied: 2 sources, 1 subscriber$`)
		declare(second, "another: p")
		p.stderr.wait(t, `an object has lost a Secret: .*"EventBus default/secured"`)
		bodies = append(bodies, p.posts(t, "two")...)
	})
	t.Run("without", func(t *testing.T) {
		p := start(t, Options{Paths: []string{file}, DataDir: data})
		p.stderr.wait(t, `^not running, for want of a Secret: EventBus default/secured, EventSource default/s http event a, Trigger default/t$`)
		base := p.stderr.wait(t, `^listening on (http://\S+)$`)[1]
		if got, said := ask(t, base+"/default/s/a", "{}"); got != http.StatusServiceUnavailable || !strings.Contains(said, "EventBus default/secured cannot be used") {
			t.Errorf("POST = %d %s, want 503 and the bus", got, said)
		}
	})
	declare(good, "another: p")
	t.Run("and with it again", func(t *testing.T) {
		p := start(t, Options{Paths: []string{file}, DataDir: data})
		p.stderr.wait(t, `^not running, for want of a Secret: EventBus default/secured`)
		declare(good, "password: p")
		p.stderr.wait(t, `^applied: 2 sources, 1 subscriber$`)
		p.ready(t)
		bodies = append(bodies, p.posts(t, "three")...)
		good.wants(t, bodies)
	})
	saved, err := os.ReadFile(filepath.Join(data, subscriptionsName))
	if err != nil || strings.Count(string(saved), `"id"`) != 1 || strings.Contains(string(saved), "retired") {
		t.Errorf("want one subscription and nothing retired: %v\n%s", err, saved)
	}
}

// Without a data directory too, what runs goes on when its Secret is lost: nothing of it is removed.
func TestALostSecretOfABusDisturbsNobody(t *testing.T) {
	url := secured(t)
	file := filepath.Join(t.TempDir(), "f.yaml")
	good := newCollector(t, true)
	write(t, file, onSecuredBus(url, good.URL, "password: p"))
	p := start(t, Options{Paths: []string{file}})
	p.ready(t)
	bodies := p.posts(t, "before")
	write(t, file, onSecuredBus(url, good.URL, "another: p"))
	p.stderr.wait(t, `an object has lost a Secret: .*"EventBus default/secured"`)
	p.stderr.wait(t, `^applied: 1 source, 1 subscriber$`)
	good.wants(t, append(bodies, p.posts(t, "without")...))
	for _, unwanted := range []string{"removed", "not running"} {
		if strings.Contains(p.stderr.String(), unwanted) {
			t.Errorf("it says %s:\n%s", unwanted, &p.stderr)
		}
	}
}

// toSecretSinks declares a Trigger, and an EventSource with a bus, whose sinks have URLs that are in a Secret.
func toSecretSinks(bus, name, secret string) string {
	return fmt.Sprintf(`
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: default}, spec: {%s}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: s}, spec: {eventBus: default, sink: {uriFrom: {name: %[2]s, key: url}}, http: {a: {raw: true}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: t}, spec: {inputs: {a: {eventSource: s, event: a}}, subscribers: [
  {condition: a, sink: {uriFrom: {name: %[2]s, key: trigger}}}]}}
---
{apiVersion: v1, kind: Secret, metadata: {name: %[2]s}, stringData: {%[3]s}}
`, bus, name, secret)
}

// What waits on an embedded bus for sinks whose URLs are in a Secret outlives restarts without it, and an edit of the reference meanwhile.
// Others go on with the bus.
func TestWhatWaitsForASinkOutlivesRestartsWithoutItsSecret(t *testing.T) {
	file, data := filepath.Join(t.TempDir(), "f.yaml"), t.TempDir()
	away, good, goodTrigger := newCollector(t, false), newCollector(t, true), newCollector(t, true)
	const embedded = "embedded: {}"
	write(t, file, toSecretSinks(embedded, "hook", fmt.Sprintf("url: %q, trigger: %q", away.URL+"/s", away.URL+"/t")))
	var bodies []string
	t.Run("with the Secret", func(t *testing.T) {
		p := start(t, Options{Paths: []string{file}, DataDir: data})
		bodies = append(bodies, p.posts(t, "one")...)
	})
	write(t, file, toSecretSinks(embedded, "hook", ""))
	for _, about := range []string{"without it", "and again"} {
		t.Run(about, func(t *testing.T) {
			p := start(t, Options{Paths: []string{file}, DataDir: data})
			p.stderr.wait(t, `^not running, for want of a Secret: EventSource default/s sink, Trigger default/t$`)
			bodies = append(bodies, p.posts(t, about)...)
		})
		write(t, file, toSecretSinks(embedded, "other", "url: none"))
	}
	t.Run("and with it", func(t *testing.T) {
		p := start(t, Options{Paths: []string{file}, DataDir: data})
		p.stderr.wait(t, `^not running, for want of a Secret: EventSource default/s sink, Trigger default/t$`)
		bodies = append(bodies, p.posts(t, "three")...)
		write(t, file, toSecretSinks(embedded, "other", fmt.Sprintf("url: %q, trigger: %q", good.URL, goodTrigger.URL)))
		p.stderr.wait(t, `^applied: 1 source, 2 subscribers$`)
		good.wants(t, bodies)
		goodTrigger.wants(t, bodies)
		for _, unwanted := range []string{"is removed", "removed, with"} {
			if strings.Contains(p.stderr.String(), unwanted) {
				t.Errorf("it says %s:\n%s", unwanted, &p.stderr)
			}
		}
	})
	saved, err := os.ReadFile(filepath.Join(data, subscriptionsName))
	if err != nil || strings.Count(string(saved), `"id"`) != 2 || strings.Contains(string(saved), "retired") {
		t.Errorf("want two subscriptions and nothing retired: %v\n%s", err, saved)
	}
}

// A subscriber that is not declared any more is not spared because it waited: the bus would keep its events for ever.
func TestWhatWaitedForASinkIsRemovedWhenItIsNotDeclaredAnyMore(t *testing.T) {
	file, data := filepath.Join(t.TempDir(), "f.yaml"), t.TempDir()
	away := newCollector(t, false)
	const embedded = "embedded: {}"
	write(t, file, toSecretSinks(embedded, "hook", fmt.Sprintf("url: %q, trigger: %q", away.URL+"/s", away.URL+"/t")))
	t.Run("with the Secret", func(t *testing.T) {
		start(t, Options{Paths: []string{file}, DataDir: data}).posts(t, "one")
	})
	all := toSecretSinks(embedded, "hook", fmt.Sprintf("url: %q", away.URL+"/s"))
	write(t, file, all)
	p := start(t, Options{Paths: []string{file}, DataDir: data})
	p.stderr.wait(t, `^not running, for want of a Secret: Trigger default/t$`)
	objects := strings.Split(all, "---\n")
	write(t, file, strings.Join([]string{objects[0], objects[1], objects[3]}, "---\n"))
	p.stderr.wait(t, `"msg":"retired subscription is removed".*"subscription":"default_t_`)
}

// The bus waits, and is back while the sinks still wait: that is applied, and what waits on the broker is delivered in the end.
func TestABusComesBackBeforeTheSinksThatWaitOnIt(t *testing.T) {
	url := secured(t)
	file, data := filepath.Join(t.TempDir(), "f.yaml"), t.TempDir()
	away, good, goodTrigger := newCollector(t, false), newCollector(t, true), newCollector(t, true)
	declare := func(secret string) {
		write(t, file, toSecretSinks(fmt.Sprintf(`jetStream: {url: %q, username: u, passwordFrom: {name: hook, key: password}}`, url), "hook", secret)+`---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: direct}, spec: {sink: {uri: "http://127.0.0.1:1"}, http: {a: {raw: true}}}}
`)
	}
	var bodies []string
	declare(fmt.Sprintf("password: p, url: %q, trigger: %q", away.URL+"/s", away.URL+"/t"))
	t.Run("all is there", func(t *testing.T) {
		p := start(t, Options{Paths: []string{file}, DataDir: data})
		p.ready(t)
		bodies = append(bodies, p.posts(t, "one")...)
	})
	declare("no: thing")
	p := start(t, Options{Paths: []string{file}, DataDir: data})
	p.stderr.wait(t, `^not running, for want of a Secret: EventBus default/default`)
	declare("password: p")
	p.stderr.wait(t, `^applied: 2 sources, 0 subscribers\nnot running, for want of a Secret: EventSource default/s sink, Trigger default/t$`)
	declare(fmt.Sprintf("password: p, url: %q, trigger: %q", good.URL, goodTrigger.URL))
	p.stderr.wait(t, `^applied: 2 sources, 2 subscribers$`)
	p.ready(t)
	bodies = append(bodies, p.posts(t, "two")...)
	good.wants(t, bodies)
	goodTrigger.wants(t, bodies)
}

// An EventSource has a bus, and a sink whose URL is missing. Before its subscription exists nobody would keep its events for it: they are not taken. Then
// they are, whatever becomes of the Secret, and also in another process.
func TestNoEventIsTakenThatASinkWhichWaitsWouldNeverGet(t *testing.T) {
	file, data := filepath.Join(t.TempDir(), "f.yaml"), t.TempDir()
	good, trigger := newCollector(t, true), newCollector(t, true)
	declare := func(secret string) {
		write(t, file, toSecretSinks("embedded: {}", "hook", fmt.Sprintf("trigger: %q, %s", trigger.URL, secret)))
	}
	var bodies []string
	declare("no: thing")
	t.Run("nothing ran before", func(t *testing.T) {
		p := start(t, Options{Paths: []string{file}, DataDir: data})
		p.stderr.wait(t, `^not running, for want of a Secret: EventSource default/s http event a$`)
		base := p.stderr.wait(t, `^listening on (http://\S+)$`)[1]
		if got, said := ask(t, base+"/default/s/a", "{}"); got != http.StatusServiceUnavailable || !strings.Contains(said, "spec.sink.uriFrom cannot be used") {
			t.Errorf("POST = %d %s, want 503 and the field", got, said)
		}
		declare(fmt.Sprintf("url: %q", good.URL))
		p.stderr.wait(t, `^applied: 1 source, 2 subscribers$`)
		bodies = append(bodies, p.posts(t, "one")...)
		good.wants(t, bodies)
		declare("no: thing")
		p.stderr.wait(t, `"msg":"an object has lost a Secret: [^"]*","object":"EventSource default/s"`)
		bodies = append(bodies, p.posts(t, "two")...)
		good.wants(t, bodies)
	})
	t.Run("its subscription is there", func(t *testing.T) {
		p := start(t, Options{Paths: []string{file}, DataDir: data})
		p.stderr.wait(t, `^not running, for want of a Secret: EventSource default/s sink$`)
		bodies = append(bodies, p.posts(t, "three")...)
		declare(fmt.Sprintf("url: %q", good.URL))
		p.stderr.wait(t, `^applied: 1 source, 2 subscribers$`)
		good.wants(t, bodies)
		trigger.wants(t, bodies)
	})
}

// A sink is edited to one that waits: the one before goes on, and the log says so.
func TestASinkThatIsEditedToOneThatWaitsGoesOn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	good := newCollector(t, true)
	triggerTo(t, file, "t", good)
	p := start(t, Options{Paths: []string{file}})
	bodies := p.posts(t, "one")
	declared, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.Replace(string(declared), fmt.Sprintf(`uri: "%s/x"`, good.URL), "uriFrom: {name: hook, key: url}", 1))
	p.stderr.wait(t, `^applied: 1 source, 1 subscriber$`)
	good.wants(t, append(bodies, p.posts(t, "two")...))
	if says := p.stderr.String(); !strings.Contains(says, lostSecret) || strings.Contains(says, waitsForSecret) || strings.Contains(says, "not running") {
		t.Errorf("want that it goes on:\n%s", says)
	}
}
