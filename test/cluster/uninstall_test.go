//go:build e2e

package cluster

import (
	"fmt"
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
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
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
		brokers  bool // that they keep no subscription is promised
	}{
		{"the documented commands", uninstalling(t), true},
		{"the release alone, while nothing of it runs", []string{
			"kubectl -n openfunction delete deployment --all",
			"kubectl -n openfunction wait --for=delete pod --all --timeout=90s",
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
			i.nothingForbidden()
			i.collectorKnowsKinds()
			begin := time.Now()
			for _, command := range tt.commands {
				step := time.Now()
				i.types(command)
				t.Logf("%s: %s", command, time.Since(step).Round(100*time.Millisecond))
			}
			if took := time.Since(begin); took > 2*time.Minute {
				t.Errorf("uninstalled after %s, want 2 minutes at most", took)
			}
			i.nothingLeft()
			got := consumers(t, js)
			if tt.brokers && len(got) > 0 {
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

// collectorKnowsKinds waits until the garbage collector has seen that our kinds exist, which it looks for every 30 seconds: of an owner that
// comes and goes in between, its kind too, it never learns that it is gone.
func (i *installation) collectorKnowsKinds() {
	i.t.Helper()
	i.eventually(2*time.Minute, "the garbage collector", func() error {
		i.Apply(`{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: probe, namespace: default},
  spec: {inputs: {e: {eventSource: none, event: none}}, subscribers: [{condition: e, topic: none}]}}`)
		uid := i.Kubectl("get", "tg", "probe", "-o", "jsonpath={.metadata.uid}")
		i.Apply(fmt.Sprintf(`{apiVersion: v1, kind: ConfigMap, metadata: {name: probe, namespace: default, ownerReferences: [
  {apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, name: probe, uid: %s}]}}`, uid))
		i.Kubectl("delete", "tg", "probe")
		_, err := i.Try("wait", "--for=delete", "configmap/probe", "--timeout=5s")
		return err
	})
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
	i.eventually(time.Minute, "objects", func() error {
		_, err := i.TryApply(fmt.Sprintf(objects, s.URL))
		return err
	})
	took := i.ready(time.Minute, "-n", "shop", "eb,ceb,es,tg")
	i.t.Logf("all is ready after %s", took.Round(10*time.Millisecond))
	body := unique()
	i.posts("shop/web/posted", body, http.StatusAccepted)
	i.eventually(10*time.Second, "the event at the sink", func() error { return s.missing(body) })
}

// gatewaysReadOneSecret asks the API server what the accounts of gateways may do.
func (i *installation) gatewaysReadOneSecret() {
	i.t.Helper()
	for account, secret := range map[string]string{
		"openfunction:events-gateway":                "events-gateway-plan",
		"shop:trigger-either":                        "trigger-either",
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

// nothingForbidden wants no process of ours to try what it may not do.
func (i *installation) nothingForbidden() {
	i.t.Helper()
	pods := i.Kubectl("get", "pods", "-A", "-l", "app.kubernetes.io/name=openfunction-events", "-o",
		`jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{"\n"}{end}`)
	for line := range strings.Lines(pods) {
		pod := strings.Fields(line)
		for said := range strings.Lines(i.Kubectl("-n", pod[0], "logs", pod[1])) {
			if strings.Contains(strings.ToLower(said), "forbidden") {
				i.t.Errorf("pod %s says %s", pod[1], said)
			}
		}
	}
}

// nothingLeft waits until the cluster has nothing that we installed or made.
func (i *installation) nothingLeft() {
	i.t.Helper()
	i.eventually(time.Minute, "the end of what we made", func() error {
		labelled, err := i.Try("get", "-A", "-l", "app.kubernetes.io/name=openfunction-events", "-o", "name",
			"deployments,replicasets,pods,secrets,serviceaccounts,roles,rolebindings,configmaps,services,poddisruptionbudgets,networkpolicies,"+
				"horizontalpodautoscalers,clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations,"+
				"customresourcedefinitions,namespaces")
		if err != nil {
			return err
		}
		names, err := i.Try("get", "-o", "name", "customresourcedefinitions,namespaces,clusterroles,clusterrolebindings,"+
			"validatingwebhookconfigurations,mutatingwebhookconfigurations")
		if err != nil {
			return err
		}
		for name := range strings.Lines(names) {
			if strings.Contains(name, "openfunction") {
				labelled += name
			}
		}
		if labelled != "" {
			return fmt.Errorf("there still is\n%s", labelled)
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
			all = append(all, info.Config.Name+" "+name)
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
