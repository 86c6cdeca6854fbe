//go:build e2e

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/test/servers"
)

// keeper has a broker that lets in only who knows a password, and trusts its authority: both are in a Secret. So is the URL of its sink.
type keeper struct {
	*installation
	server    *servers.JetStreamServer
	authority *servers.Authority
	monitor   string // host:port that tells who is connected
	sink      *sink
	moved     *sink // where the URL leads in the end
	load      *load
	before    string // the pods
}

const keeperObjects = `
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default, namespace: secretive}
spec:
  jetStream:
    url: tls://secured.secretive:4222
    usernameFrom: {name: nats, key: username}
    passwordFrom: {name: nats, key: password}
    tls: {caCertFrom: {name: nats, key: ca.crt}, serverName: localhost}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: es, namespace: secretive}
spec: {http: {posted: {}}, cron: {tick: {schedule: "@every 1h"}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t, namespace: secretive}
spec: {inputs: {posted: {eventSource: es, event: posted}}, subscribers: [{condition: posted, sink: {uriFrom: {name: hook, key: url}}}]}
`

func newKeeper(t *testing.T, i *installation) *keeper {
	t.Helper()
	k := &keeper{installation: i, authority: servers.NewAuthority(t), sink: newSink(t), moved: newSink(t)}
	k.monitor = servers.FreeAddress(t)
	k.server = servers.JetStreamTLS(t, k.authority, k.users("before")...)
	i.forwardService("secretive", "secured", "4222", strings.TrimPrefix(k.server.URL(), "tls://"))
	i.Apply(keeperObjects)
	return k
}

func (k *keeper) in(t *testing.T) *keeper {
	c := *k
	c.installation = k.installation.in(t)
	return &c
}

// users are the directives for a server that lets in these users.
func (k *keeper) users(names ...string) []string {
	var users []string
	for _, name := range names {
		users = append(users, fmt.Sprintf("{user: %q, password: %q}", name, "passw0rd-"+name))
	}
	return []string{fmt.Sprintf("http: %q", k.monitor), "authorization { users: [" + strings.Join(users, ", ") + "] }"}
}

// comes gives the Secret one piece after the other, of which the first ones are wrong.
func (k *keeper) comes() {
	k.t.Helper()
	// The bus says it, and so do those who wait for it.
	says := func(reason, message string) {
		k.t.Helper()
		k.says(30*time.Second, "secretive", "eb/default", "False "+reason+" Error")
		for _, object := range []string{"eb/default", "es/es", "tg/t"} {
			k.eventually(30*time.Second, object, func() error {
				out, err := k.Try("-n", "secretive", "get", object, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")]}`)
				if err == nil && !strings.Contains(out, message) {
					err = fmt.Errorf("it says %s, want %s", out, message)
				}
				return err
			})
		}
	}
	patch := func(data map[string]string) {
		k.t.Helper()
		text, err := json.Marshal(map[string]any{"stringData": data})
		if err != nil {
			k.t.Fatal(err)
		}
		k.Kubectl("-n", "secretive", "patch", "secret", "nats", "-p", string(text))
	}
	says("SecretNotFound", `of Secret secretive/nats: there is no such Secret: create it`)
	k.Kubectl("-n", "secretive", "create", "secret", "generic", "nats", "--from-literal=username=before", "--from-literal=ca.crt="+k.authority.Cert)
	says("SecretNotFound", `spec.jetStream.passwordFrom: key \"password\" of Secret secretive/nats: the Secret has no such key: add it`)
	patch(map[string]string{"password": "passw0rd-of-another"})
	says("Unreachable", "Authorization Violation")
	patch(map[string]string{"ca.crt": servers.NewAuthority(k.t).Cert})
	says("Unreachable", "signed by an authority that is not trusted: correct tls.caCertFrom")
	patch(map[string]string{"ca.crt": k.authority.Cert, "password": "passw0rd-before"})
	k.says(30*time.Second, "secretive", "tg/t", "False SecretNotFound Error")
	k.Kubectl("-n", "secretive", "create", "secret", "generic", "hook", "--from-literal=url=pl4nted")
	k.says(30*time.Second, "secretive", "tg/t", "False SecretInvalid Error")
	k.leads(k.sink.URL + "/pl4nted")
	took := k.ready(time.Minute, "-n", "secretive", "eb/default", "es/es", "tg/t")
	k.t.Logf("ready %s after the Secret was right", took.Round(10*time.Millisecond))
	body := unique()
	k.posts("secretive/es/posted", body, http.StatusAccepted)
	k.eventually(30*time.Second, "the event at the sink", func() error { return k.sink.missing(body) })
}

// leads has the URL of the sink be this one.
func (k *keeper) leads(url string) {
	k.t.Helper()
	k.Kubectl("-n", "secretive", "patch", "secret", "hook", "-p", fmt.Sprintf(`{"stringData": {"url": %q}}`, url))
}

// rotates begins to post events, and changes the user and password, of which the broker takes both at first.
func (k *keeper) rotates() {
	k.t.Helper()
	k.before = k.allPods()
	k.load = k.loadOf(20, "secretive/es/posted")
	k.server.Reload(k.users("before", "after")...)
	k.Kubectl("-n", "secretive", "patch", "secret", "nats", "-p", `{"stringData": {"username": "after", "password": "passw0rd-after"}}`)
}

// rotated wants everybody to use the new ones by themselves, so that the broker can forget those before, and no event to be lost.
func (k *keeper) rotated() {
	k.t.Helper()
	k.eventually(2*time.Minute, "connections as the new user only", func() error {
		users, err := k.connected()
		if err == nil && (users["before"] > 0 || users["after"] < 3) { // the shared gateway, a source and a Trigger
			err = fmt.Errorf("connected are %v", users)
		}
		return err
	})
	k.server.Reload(k.users("after")...)
	k.passes(k.load, 50, k.sink)
	subscriptions := func() string {
		return k.Kubectl("-n", "secretive", "get", "tg/t", "-o", "jsonpath={.status.subscriptions}")
	}
	before := subscriptions()
	k.leads(k.moved.URL + "/pl4nted")
	k.eventually(time.Minute, "an event at the other URL", func() error {
		if len(k.moved.received()) == 0 {
			return errors.New("none")
		}
		return nil
	})
	k.passes(k.load, 50, k.moved)
	k.load.stop()
	k.eventually(time.Minute, "every event at one of the URLs", func() error {
		arrived := map[string]bool{}
		for _, e := range append(k.sink.received(), k.moved.received()...) {
			arrived[e.body] = true
		}
		for _, body := range k.load.taken {
			if !arrived[body] {
				return fmt.Errorf("%s is missing, and %d of %d are there", body, len(arrived), len(k.load.taken))
			}
		}
		return nil
	})
	if got := subscriptions(); got != before {
		k.t.Errorf("subscriptions were %s and are %s", before, got)
	}
	if out := k.Kubectl("-n", "secretive", "get", "es,tg", "-o", "yaml"); strings.Contains(out, "pl4nted") {
		k.t.Errorf("the URL is shown: %s", out)
	}
	if _, refusals, _ := k.load.end(); len(refusals) > 0 {
		k.t.Logf("%d times refused, and taken later:\n%s", len(refusals), summary(refusals))
	}
	k.t.Logf("%d events taken, none lost", len(k.load.taken))
	if got := k.allPods(); got != k.before {
		k.t.Errorf("pods were %s and are %s", k.before, got)
	}
	k.says(10*time.Second, "secretive", "tg/t", "True  Running")
}

func (k *keeper) allPods() string {
	k.t.Helper()
	return k.pods("secretive", "app.kubernetes.io/managed-by=events-controller") + k.pods("openfunction", "app.kubernetes.io/component=gateway")
}

// connected is how many connections the broker has of each user.
func (k *keeper) connected() (map[string]int, error) {
	answer, err := http.Get("http://" + k.monitor + "/connz?auth=true")
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var all struct {
		Connections []struct {
			User string `json:"authorized_user"`
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&all); err != nil {
		return nil, errors.Join(errors.New("what the broker says of its connections cannot be read"), err)
	}
	users := map[string]int{}
	for _, c := range all.Connections {
		users[c.User]++
	}
	return users, nil
}
