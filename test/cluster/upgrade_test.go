//go:build e2e

package cluster

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// outdated are objects that the definitions let through and admission would not, and what is to be said of each.
var outdated = []struct{ kind, name, spec, message, mended string }{
	{"EventSource", "schedule", `{cron: {tick: {schedule: every day}}, http: {posted: {}}}`, "spec.cron[tick].schedule: ",
		`{"spec": {"cron": {"tick": {"schedule": "@daily"}}}}`},
	{"EventSource", "empty", `{http: {posted: null}}`, "spec.http[posted]: is empty", `{"spec": {"http": {"posted": {}}}}`},
	{"Trigger", "condition", `{inputs: {posted: {eventSource: schedule, event: posted}}, subscribers: [{condition: posted &&, topic: out}]}`,
		"spec.subscribers[0].condition: ", `{"spec": {"subscribers": [{"condition": "posted", "topic": "out"}]}}`},
	{"EventBus", "backends", `{embedded: {}, jetStream: {url: "nats://nats:4222"}}`, "spec: has 2 backends", `{"spec": {"jetStream": null}}`},
	{"ClusterEventBus", "url", `{jetStream: {url: "http://nats:4222"}}`, "spec.jetStream.url: ", `{"spec": {"jetStream": {"url": "nats://nats:4222"}}}`},
}

// upgrades writes objects while nothing of ours is there that would refuse them, as if by a version before, and installs.
func (i *installation) upgrades() {
	i.t.Helper()
	i.Kubectl("-n", "openfunction", "scale", "deployment/events-controller", "--replicas=0")
	i.Kubectl("-n", "openfunction", "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=controller", "--timeout=60s")
	i.Kubectl("delete", "validatingwebhookconfigurations,mutatingwebhookconfigurations", "-l", "app.kubernetes.io/name=openfunction-events")
	i.namespace("outdated")
	for _, o := range outdated {
		for _, name := range []string{"mended", "deleted"} {
			// apply would drop what is null
			_, err := i.TryInput(fmt.Sprintf("{apiVersion: events.openfunction.io/v1alpha1, kind: %s, metadata: {namespace: outdated, name: %s, "+
				"finalizers: [example.com/hold]}, spec: %s}", o.kind, o.name+"-"+name, o.spec), "create", "-f", "-")
			if err != nil {
				i.t.Fatal(err)
			}
		}
	}
	// The controller could not read any EventSource if there were this one.
	_, err := i.TryInput(`{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {namespace: outdated, name: unreadable},
  spec: {sink: {uri: "http://["}, http: {posted: {}}}}`, "create", "-f", "-")
	if err := says(err, "spec.sink.uri"); err != nil {
		i.t.Error(err)
	}

	i.Kubectl("apply", "-f", i.release)
	i.Kubectl("-n", "openfunction", "wait", "--for=condition=Available", "--timeout=120s", "deployment/events-controller")
	i.eventually(time.Minute, "admission", func() error { return refused(i.KubernetesCluster, eventBus("probe", `{}`), "spec: has no backend") })
	for _, o := range outdated {
		object := strings.ToLower(o.kind) + "/" + o.name
		for _, object := range []string{object + "-mended", object + "-deleted"} {
			i.says(time.Minute, "outdated", object, "False Invalid Error")
			if got := i.Kubectl("-n", "outdated", "get", object, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].message}`); !strings.HasPrefix(got, o.message) {
				i.t.Errorf("%s says %q, want %q", object, got, o.message)
			}
		}
	}
	i.quiet()
	if got := i.pods("openfunction", "app.kubernetes.io/component=controller"); !strings.Contains(got, "restarted 0 times") {
		i.t.Errorf("the controller is %s", got)
	}

	for _, o := range outdated {
		object := strings.ToLower(o.kind) + "/" + o.name
		i.Kubectl("-n", "outdated", "patch", object+"-deleted", "--subresource=status", "--type=merge", "-p", `{"status": {"annotations": {"written": "by somebody"}}}`)
		i.Kubectl("-n", "outdated", "label", object+"-deleted", "still=invalid")
		i.Kubectl("-n", "outdated", "patch", object+"-mended", "--type=merge", "-p", o.mended)
		i.eventually(time.Minute, "another status of "+object, func() error {
			got, err := i.Try("-n", "outdated", "get", object+"-mended", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].reason}`)
			if err == nil && got == "Invalid" {
				err = errors.New("it still is invalid")
			}
			return err
		})
		i.Kubectl("-n", "outdated", "delete", object+"-mended", object+"-deleted", "--wait=false")
		for _, object := range []string{object + "-mended", object + "-deleted"} {
			i.Kubectl("-n", "outdated", "patch", object, "--type=merge", "-p", `{"metadata": {"finalizers": null}}`)
		}
		i.gone("-n", "outdated", object+"-mended", object+"-deleted")
	}
}
