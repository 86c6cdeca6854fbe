//go:build e2e

package cluster

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/test/servers"
)

// variety is one object of each sort; %[1]s is where events go.
const variety = `
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default, namespace: shop}
spec: {jetStream: {url: "nats://js.default:4222"}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: ClusterEventBus
metadata: {name: common}
spec: {jetStream: {url: "nats://js.default:4222"}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: own, namespace: shop}
spec: {embedded: {}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: ClusterEventBus
metadata: {name: common-own}
spec: {embedded: {}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: web-on-own, namespace: shop}
spec: {eventBus: own, http: {posted: {}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: on-own, namespace: shop}
spec:
  eventBus: own
  inputs: {posted: {eventSource: web-on-own, event: posted}}
  subscribers: [{condition: posted, sink: {uri: %[1]q}}]
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: web, namespace: shop}
spec: {http: {posted: {}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: web-with-sink, namespace: shop}
spec: {eventBus: common, sink: {uri: %[1]q}, http: {posted: {}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: clock, namespace: shop}
spec: {cron: {tick: {schedule: "@every 1h"}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: clock-with-sink, namespace: shop}
spec: {eventBus: default, sink: {uri: %[1]q}, cron: {tick: {schedule: "@every 1h"}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: either, namespace: shop}
spec:
  inputs: {posted: {eventSource: web, event: posted}, tick: {eventSource: clock, event: tick}}
  subscribers: [{condition: posted || tick, sink: {uri: %[1]q}}]
`

// TestE2EUninstall runs what the documentation says about uninstalling, and wants nothing to be left, wherever events flow at that time.
func TestE2EUninstall(t *testing.T) {
	i := install(t)
	js := jetStream(t, i)
	s := newSink(t)
	for _, tt := range []struct {
		name     string
		commands []string
		careful  bool // what runs ends before its kinds go, and it is promised that brokers keep no subscription
	}{
		{"the documented commands", uninstalling(t), true},
		{"the release alone, while nothing of it runs", []string{
			"kubectl -n openfunction delete deployment --all",
			"kubectl -n openfunction wait --for=delete pod -l pod-template-hash --timeout=90s",
			"kubectl delete --ignore-not-found -f release/openfunction-events.yaml",
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := i.in(t)
			i.flowsOn(variety, s)
			if got := consumers(t, js); len(got) != 3 {
				t.Fatalf("subscriptions on the broker: %q, want those of two sinks and of a Trigger", got)
			}
			i.gatewaysReadOneSecret()
			i.serversReadNothing()
			i.nothingSaid(i.password("shop", "eventbus-own"), i.password("openfunction", "clustereventbus-common-own"))
			i.nothingHolds()
			i.collectorKnowsKinds()
			begin := time.Now()
			for _, command := range tt.commands {
				step := time.Now()
				if tt.careful && strings.Contains(command, " -f ") {
					runs := i.Kubectl("get", "deployments,statefulsets,pods", "-A", "-l", "app.kubernetes.io/managed-by=events-controller", "-o", "name")
					if runs != "" {
						t.Errorf("the kinds go while there still is\n%s", runs)
					}
				}
				i.types(command)
				t.Logf("%s: %s", command, time.Since(step).Round(100*time.Millisecond))
			}
			if took := time.Since(begin); took > 2*time.Minute {
				t.Errorf("uninstalled after %s, want 2 minutes at most", took)
			}
			// What every namespace has, and a volume, which holds events.
			i.nothingLeft("configmap/kube-root-ca.crt", "serviceaccount/default", "persistentvolumeclaim/data-eventbus-own-0")
			i.Kubectl("-n", "shop", "delete", "pvc", "-l", "events.openfunction.io/bus=own,app.kubernetes.io/component=eventbus", "--timeout=30s")
			i.nothingLeft("configmap/kube-root-ca.crt", "serviceaccount/default")
			got := consumers(t, js)
			if tt.careful && len(got) > 0 {
				t.Errorf("subscriptions on the broker: %q, want none", got)
			}
			t.Logf("subscriptions on the broker: %q", got)
			i.Kubectl("apply", "-f", i.release)
			i.Kubectl("-n", "openfunction", "wait", "--for=condition=Available", "--timeout=120s",
				"deployment/events-webhook", "deployment/events-controller", "deployment/events-gateway")
		})
	}
	i.flowsOn(variety, s) // what is installed again works
}

// probes are one object of each of our kinds.
const probes = `
{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: probe, namespace: shop}, spec: {jetStream: {url: "nats://js.default:4222"}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: ClusterEventBus, metadata: {name: probe}, spec: {jetStream: {url: "nats://js.default:4222"}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: probe, namespace: shop}, spec: {eventBus: none, http: {posted: {}}}}
---
{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: probe, namespace: shop},
  spec: {eventBus: none, inputs: {e: {eventSource: none, event: none}}, subscribers: [{condition: e, topic: none}]}}
`

// collectorKnowsKinds waits until the garbage collector watches our kinds, which it looks for every 30 seconds, and which it tries to list less
// and less often when they were gone: of an owner that comes and goes in between it never learns that it is gone. Deletions in the foreground
// end when it has seen their objects.
func (i *installation) collectorKnowsKinds() {
	i.t.Helper()
	i.Apply(probes)
	if _, err := i.TryInput(probes, "delete", "--cascade=foreground", "--timeout=180s", "-f", "-"); err != nil {
		i.t.Fatal(err)
	}
}

// uninstalling returns the commands of the documentation.
func uninstalling(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Uninstall\n")
	_, block, _ := strings.Cut(section, "```sh\n")
	block, _, found := strings.Cut(block, "\n```")
	if !found {
		t.Fatal("docs/install.md has no commands for uninstalling")
	}
	return strings.Split(block, "\n")
}

// types runs a line of the documentation, with the release that was applied.
func (i *installation) types(command string) {
	i.t.Helper()
	args := strings.Fields(strings.ReplaceAll(command, "release/openfunction-events.yaml", i.release))
	if args[0] != "kubectl" {
		i.t.Fatalf("%s: only kubectl can be run here", command)
	}
	if _, err := i.Try(args[1:]...); err != nil {
		i.t.Error(err)
	}
}

// flowsOn applies the objects as soon as admission lets it, waits until all are ready, and posts an event that comes to the sink.
func (i *installation) flowsOn(objects string, s *sink) {
	i.t.Helper()
	i.namespace("shop")
	i.eventually(time.Minute, "objects", func() error {
		_, err := i.TryApply(fmt.Sprintf(objects, s.URL))
		return err
	})
	took := i.ready(time.Minute, "-n", "shop", "eb,ceb,es,tg")
	i.t.Logf("all is ready after %s", took.Round(10*time.Millisecond))
	body, other := unique(), unique()
	i.posts("shop/web/posted", body, http.StatusAccepted)
	i.posts("shop/web-on-own/posted", other, http.StatusAccepted)
	i.eventually(30*time.Second, "the events at the sink", func() error { return s.missing(body, other) })
}

// gatewaysReadOneSecret asks the API server what the accounts of gateways may do.
func (i *installation) gatewaysReadOneSecret() {
	i.t.Helper()
	if got, want := i.may("system:serviceaccount:openfunction:events-gateway"), []string{"secrets [] [events-gateway-plan] [list watch]"}; !slices.Equal(got, want) {
		i.t.Errorf("the shared gateway may do %q, want %q", got, want)
	}
	for account, secret := range map[string]string{
		"shop:trigger-either":                        "trigger-either",
		"shop:trigger-on-own":                        "trigger-on-own",
		"shop:eventsource-clock-cron-tick":           "eventsource-clock-cron-tick",
		"shop:eventsource-clock-with-sink-cron-tick": "eventsource-clock-with-sink-cron-tick",
	} {
		got := i.may("system:serviceaccount:" + account)
		if want := []string{"secrets [] [" + secret + "] [get list watch]"}; !slices.Equal(got, want) {
			i.t.Errorf("%s may do %q, want %q", account, got, want)
		}
	}
}

// may returns what the account may do in its namespace beyond what every account may.
func (i *installation) may(account string) []string {
	i.t.Helper()
	namespace := strings.Split(account, ":")[2]
	list := func(account string) []string {
		var lines []string
		for line := range strings.Lines(i.Kubectl("-n", namespace, "auth", "can-i", "--list", "--no-headers", "--as="+account)) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		return lines
	}
	everybody := list("system:serviceaccount:" + namespace + ":nobody")
	return slices.DeleteFunc(list(account), func(line string) bool { return slices.Contains(everybody, line) })
}

// serversReadNothing wants the servers of embedded buses to have no account to ask the API server with.
func (i *installation) serversReadNothing() {
	i.t.Helper()
	mounts := i.Kubectl("get", "pods", "-A", "-l", "events.openfunction.io/bus", "-o",
		`jsonpath={range .items[*]}{.metadata.name}{range .spec.volumes[*]} {.name}{end}{"\n"}{end}`)
	if want := "clustereventbus-common-own-0 data access\neventbus-own-0 data access\n"; mounts != want {
		i.t.Errorf("volumes of the servers:\n%swant\n%s", mounts, want)
	}
}

// password is what the controller made up for the servers of an embedded bus.
func (i *installation) password(namespace, secret string) string {
	i.t.Helper()
	password, err := base64.StdEncoding.DecodeString(i.Kubectl("-n", namespace, "get", "secret", secret, "-o", "jsonpath={.data.password}"))
	if err != nil || len(password) < 16 {
		i.t.Fatalf("the password of %s is %q (%v)", secret, password, err)
	}
	return string(password)
}

// nothingSaid wants no process of ours to say that it tried what it may not do, nor a password, which no object but Secrets may have either.
func (i *installation) nothingSaid(passwords ...string) {
	i.t.Helper()
	look := func(where, text string, words ...string) {
		i.t.Helper()
		for line := range strings.Lines(text) {
			if slices.ContainsFunc(words, func(word string) bool { return strings.Contains(line, word) }) {
				i.t.Errorf("%s: %s", where, line)
			}
		}
	}
	pods := i.Kubectl("get", "pods", "-A", "-l", "app.kubernetes.io/name=openfunction-events", "-o",
		`jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{"\n"}{end}`)
	for line := range strings.Lines(pods) {
		pod := strings.Fields(line)
		look("log of pod "+pod[1], i.Kubectl("-n", pod[0], "logs", pod[1]), append(passwords, "forbidden", "Forbidden")...)
	}
	kinds := slices.DeleteFunc(i.kinds(true), func(kind string) bool { return kind == "secrets" })
	look("an object", i.Kubectl("get", strings.Join(kinds, ","), "-A", "-o", "yaml"), passwords...)
}

// kinds are all that the API server can list, in namespaces or not.
func (i *installation) kinds(namespaced bool) []string {
	i.t.Helper()
	return strings.Fields(i.Kubectl("api-resources", "--verbs=list", "-o", "name", fmt.Sprintf("--namespaced=%t", namespaced)))
}

// nothingHolds wants no finalizer on anything that we made or declared, which could hold up its deletion; those of volumes are the cluster's.
func (i *installation) nothingHolds() {
	i.t.Helper()
	held := i.Kubectl("get", "-A", "-l", "app.kubernetes.io/managed-by=events-controller", "-o",
		`jsonpath={range .items[?(@.metadata.finalizers)]}{.kind} {.metadata.name} {.metadata.finalizers}{"\n"}{end}`,
		"deployments,statefulsets,pods,services,secrets,serviceaccounts,roles,rolebindings,poddisruptionbudgets")
	held += i.Kubectl("get", "-A", "eb,ceb,es,tg", "-o", `jsonpath={range .items[?(@.metadata.finalizers)]}{.kind} {.metadata.name} {.metadata.finalizers}{"\n"}{end}`)
	if held != "" {
		i.t.Errorf("finalizers:\n%s", held)
	}
}

// nothingLeft waits until the cluster has nothing that we installed or made but these, and the namespace of the objects is as if it were new.
func (i *installation) nothingLeft(but ...string) {
	i.t.Helper()
	i.eventually(time.Minute, "the end of what we made", func() error {
		isEvents := func(kind string) bool { return kind == "events" || kind == "events.events.k8s.io" } // They say what was.
		inNamespaces := strings.Join(slices.DeleteFunc(i.kinds(true), isEvents), ",")
		all := inNamespaces + "," + strings.Join(i.kinds(false), ",")
		labelled, err := i.Try("get", "-A", "-l", "app.kubernetes.io/name=openfunction-events", "-o", "name", all)
		if err != nil {
			return err
		}
		inShop, err := i.Try("get", "-n", "shop", "-o", "name", inNamespaces)
		if err != nil {
			return err
		}
		named, err := i.Try("get", "-A", "-o", "name", all)
		if err != nil {
			return err
		}
		left := map[string]bool{}
		for name := range strings.Lines(labelled + inShop) {
			left[strings.TrimSpace(name)] = true
		}
		for name := range strings.Lines(named) {
			if strings.Contains(name, "openfunction") {
				left[strings.TrimSpace(name)] = true
			}
		}
		maps.DeleteFunc(left, func(name string, _ bool) bool { return slices.Contains(but, name) })
		if len(left) > 0 {
			return fmt.Errorf("there still is %q", slices.Sorted(maps.Keys(left)))
		}
		return nil
	})
}

// jetStream starts a server that is nats://js.default:4222 in the cluster.
func jetStream(t *testing.T, i *installation) jetstream.JetStream {
	t.Helper()
	server := servers.JetStream(t)
	i.forwardService("default", "js", "4222", strings.TrimPrefix(server.URL(), "nats://"))
	conn, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// consumers returns the names of all that the broker keeps.
func consumers(t *testing.T, js jetstream.JetStream) []string {
	t.Helper()
	var all []string
	streams := js.ListStreams(t.Context())
	for info := range streams.Info() {
		stream, err := js.Stream(t.Context(), info.Config.Name)
		if err != nil {
			t.Fatal(err)
		}
		names := stream.ConsumerNames(t.Context())
		for name := range names.Name() {
			if name != "openfunction~latecomers" { // which is nobody's, and goes by itself
				all = append(all, info.Config.Name+" "+name)
			}
		}
		if err := names.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := streams.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
