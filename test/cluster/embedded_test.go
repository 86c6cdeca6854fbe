//go:build e2e

package cluster

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/test/servers"
)

const embeddedBus = `
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default}
spec: {embedded: {}}
---
`

// embeddedObjects are a bus of one server beside its users, and one of three for all namespaces.
const embeddedObjects = embeddedBus + `
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: es}
spec: {http: {posted: {}, first: {}, second: {}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: joined}
spec:
  window: 30m
  inputs: {first: {eventSource: es, event: first}, second: {eventSource: es, event: second}}
  subscribers: [{condition: first && second, sink: {uri: "%[3]s"}}]
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t}
spec: {inputs: {posted: {eventSource: es, event: posted}}, subscribers: [{condition: posted, sink: {uri: "%[1]s"}}]}
---
apiVersion: events.openfunction.io/v1alpha1
kind: ClusterEventBus
metadata: {name: three}
spec: {embedded: {replicas: 3, storage: 64Mi, syncInterval: always}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: es3}
spec: {eventBus: three, http: {posted: {}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t3}
spec: {eventBus: three, inputs: {posted: {eventSource: es3, event: posted}}, subscribers: [{condition: posted, sink: {uri: "%[2]s"}}]}
`

var server = part{"default", "events.openfunction.io/bus=default"}

// TestE2EEmbedded declares buses that need no broker, and takes away their servers while events are posted: every event that was taken
// has to be at its sink in the end.
func TestE2EEmbedded(t *testing.T) {
	begin := time.Now()
	step := func(what string) { t.Logf("after %s: %s", time.Since(begin).Round(100*time.Millisecond), what) }
	servers.NeedsOwnKubernetes(t, "kills processes of pods")
	i := install(t)
	step("installed")
	i.DeleteAfter("pvc", "-l", "events.openfunction.io/bus=default", "--wait=false") // It stays when its bus goes.
	one, three, joined := newSink(t), newSink(t), newSink(t)
	i.Apply(fmt.Sprintf(embeddedObjects, one.URL, three.URL, joined.URL))
	took := i.ready(2*time.Minute, "eb/default", "es/es", "tg/t", "tg/joined", "ceb/three", "es/es3", "tg/t3")
	t.Logf("ready after %s", took.Round(time.Millisecond))
	i.serversReady("eb/default", "ceb/three")
	i.touch("eventbuses", "clustereventbuses", "eventsources", "triggers")
	step("what is as it should be is not written")
	i.posts("default/es/first", unique(), http.StatusAccepted) // It waits on the bus until the end of the test.
	of1, of3 := i.load("default/es/posted"), i.load("default/es3/posted")

	i.passes(of1, 200, one)
	i.killsAndWaits(server)
	i.passes(of1, 200, one)
	step("the only server was killed")
	i.Kubectl("delete", "pod", "eventbus-default-0") // Another one gets its volume and its name.
	i.passes(of1, 200, one)
	step("another pod has its volume and its name")

	i.passes(of3, 200, three)
	of3.begin()
	i.kills("openfunction", "-l", "events.openfunction.io/bus=three,statefulset.kubernetes.io/pod-name=clustereventbus-three-1")
	i.passes(of3, 200, three)
	i.serversReady("ceb/three")
	_, refusals, pause := of3.end()
	t.Logf("three servers, of which one was killed: none taken for %s at most, %d times refused\n%s", pause.Round(time.Millisecond), len(refusals), summary(refusals))

	step("one of three servers was killed")
	i.Kubectl("delete", "secret", "eventbus-default") // The servers and all gateways get another password and authority.
	i.passes(of1, 200, one)
	step("there is another password")

	for l, s := range map[*load]*sink{of1: one, of3: three} {
		l.stop()
		i.eventually(time.Minute, "every event at the sink", func() error { return s.missing(l.taken...) })
		t.Logf("%d events taken, none lost, %d delivered more than once", len(l.taken), len(s.received())-len(l.taken))
	}
	step("every event is there")
	i.refusesOtherServers()
	i.keepsVolumes(joined)
	step("what waited is there")

	i.Apply(`{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: other}, spec: {embedded: {replicas: 3}}}`)
	i.Kubectl("wait", "--for=create", "statefulset/eventbus-other", "--timeout=60s")
	i.relabels("default", "service/eventbus-other", "poddisruptionbudget/eventbus-other", "statefulset/eventbus-other")
	step("labels are back")
}

// serversReady waits until all servers of the buses are.
func (i *installation) serversReady(buses ...string) {
	i.t.Helper()
	for _, bus := range buses {
		i.eventually(time.Minute, "servers of "+bus, func() error {
			out, err := i.Try("get", bus, "-o", `jsonpath={.status.conditions[?(@.type=="ServersReady")]}`)
			if err == nil && !strings.Contains(out, `"status":"True"`) {
				err = fmt.Errorf("%s", out)
			}
			return err
		})
	}
}

// refusesOtherServers wants admission to say what to do instead.
func (i *installation) refusesOtherServers() {
	i.t.Helper()
	for patch, want := range map[string]string{
		`{"replicas": 3}`:    "spec.embedded.replicas: cannot be changed",
		`{"storage": "2Gi"}`: "spec.embedded.storage: cannot be changed, since the volumes are there",
	} {
		_, err := i.Try("patch", "eb/default", "--type=merge", "-p", fmt.Sprintf(`{"spec": {"embedded": %s}}`, patch))
		if err := says(err, want); err != nil {
			i.t.Error(err)
		}
	}
}

// keepsVolumes deletes the bus and makes it again at once: what waited there still does.
func (i *installation) keepsVolumes(s *sink) {
	i.t.Helper()
	i.Kubectl("annotate", "eb/default", "events.openfunction.io/force-delete=true")
	i.Kubectl("delete", "eb/default")
	i.Apply(embeddedBus) // while what the bus before owned is still there
	took := i.ready(time.Minute, "eb/default", "es/es", "tg/joined")
	i.t.Logf("ready %s after it was made again", took.Round(time.Millisecond))
	if said := i.Kubectl("get", "events", "--field-selector=involvedObject.name=default,reason=NotOwned", "-o", "name"); said != "" {
		i.t.Errorf("it took what the bus before owned for somebody else's: %s", said)
	}
	body := unique()
	i.posts("default/es/second", body, http.StatusAccepted)
	i.eventually(time.Minute, "what the event from before joins with", func() error { return s.missing(body) })
}
