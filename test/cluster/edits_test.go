//go:build e2e

package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/test/servers"
)

// TestE2EEdits edits what runs: what is meant follows without a restart, and nothing else is touched.
func TestE2EEdits(t *testing.T) {
	i := install(t)
	kafka, nats := i.brokers()
	i.forwardService("default", "nats-too", "4222", strings.TrimPrefix(nats.URL(), "nats://"))
	i.forwardService("kafka", "too", "9092", kafka.Addr())
	kafka.CreateTopic("orders", 1)
	kafka.CreateTopic("orders-too", 1)
	i.defineKnative()
	e := &edited{
		installation: i, kafka: kafka,
		Condition: "order", Sink: "one", Topic: "ordered", Brokers: "dapr-kafka.kafka:9092", Records: "orders", Event: "tick", Nats: "nats.default",
		at: map[string]*sink{"one": newSink(t), "two": newSink(t), "ticks": newSink(t), "ordered": topic(t, nats, "ordered"), "ordered-too": topic(t, nats, "ordered-too")},
	}
	for _, name := range []string{"one", "two", "ticks"} {
		i.knativeService("default", name, e.at[name].URL)
	}
	e.apply()
	e.flows()

	for _, tt := range edits {
		t.Run(tt.name, func(t *testing.T) { e.in(t).edit(tt.edit, tt.want) })
	}
	t.Run("what waits for a wrong sink goes to the right one", func(t *testing.T) { e.in(t).correct() })
	t.Run("what is as it should be is not written", func(t *testing.T) { e.in(t).touch() })
	t.Run("children that are deleted come back, and nothing is lost", func(t *testing.T) { e.in(t).deleteChildren() })
	t.Run("children that lose their label get it back", func(t *testing.T) {
		e.in(t).relabels("default", "serviceaccount/trigger-orders", "role/trigger-orders", "rolebinding/trigger-orders", "secret/trigger-orders", "deployment/trigger-orders")
	})
	t.Run("what is deleted can be read again without a watch that lasts", func(t *testing.T) { e.in(t).deleteRights() })
	t.Run("the plan of the shared gateway comes back, and nothing is lost", func(t *testing.T) { e.in(t).deletePlan() })
	t.Run("the defaults of deliveries count at once", func(t *testing.T) { e.in(t).changeDefaults() })
	t.Run("a Trigger takes its subscription along", func(t *testing.T) { e.in(t).deleteTrigger() })
}

// edited is what the test declares, and where its events arrive.
type edited struct {
	*installation
	kafka *servers.KafkaServer
	at    map[string]*sink

	Condition, Sink, Topic, Brokers, Records, Event, Nats string
}

func (e *edited) in(t *testing.T) *edited {
	c := *e.installation
	c.t = t
	e.installation = &c
	return e
}

var editedObjects = template.Must(template.New("").Parse(`
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default}
spec: {natsStreaming: {natsURL: "nats://{{.Nats}}:4222", natsStreamingClusterID: stan}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: shop}
spec: {kafka: {order: {brokers: "{{.Brokers}}", topic: {{.Records}}, authRequired: false}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: clock}
spec: {cron: { {{.Event}}: {schedule: "@every 1s"}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: orders}
spec:
  inputs: {order: {eventSource: shop, event: order}}
  subscribers:
  - condition: {{.Condition}}
    sink: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: {{.Sink}}}}
    topic: {{.Topic}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: ticks}
spec:
  inputs: {tick: {eventSource: clock, event: {{.Event}}}}
  subscribers:
  - condition: tick
    sink: {ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: ticks}}
`))

// apply declares everything, and waits until it is ready.
func (e *edited) apply() {
	e.t.Helper()
	var manifest bytes.Buffer
	if err := editedObjects.Execute(&manifest, e); err != nil {
		e.t.Fatal(err)
	}
	e.Apply(manifest.String())
	took := e.ready(30*time.Second, "eb/default", "es/shop", "es/clock", "tg/orders", "tg/ticks")
	e.t.Logf("ready after %s", took.Round(10*time.Millisecond))
}

// unwanted is an order that the edited condition does not let through.
const unwanted = `{"order":"none"}`

// flows wants new orders where they should go, and nowhere else, and new ticks.
func (e *edited) flows() {
	e.t.Helper()
	ticks := len(e.at["ticks"].received())
	if e.Condition != "order" {
		e.kafka.Produce(servers.KafkaRecord(e.Records, "", unwanted))
	}
	bodies := e.produce(5)
	e.arrive(bodies)
	for name, s := range e.at {
		for _, got := range s.received() {
			if got.body == unwanted || name != e.Sink && name != e.Topic && slices.Contains(bodies, got.body) {
				e.t.Errorf("%s got %s", name, got.body)
			}
		}
	}
	e.eventually(30*time.Second, "ticks", func() error {
		if len(e.at["ticks"].received()) < ticks+2 {
			return fmt.Errorf("none came")
		}
		return nil
	})
}

func (e *edited) produce(n int) []string {
	e.t.Helper()
	var bodies []string
	for range n {
		bodies = append(bodies, unique())
		e.kafka.Produce(servers.KafkaRecord(e.Records, "", bodies[len(bodies)-1]))
	}
	return bodies
}

// arrive waits until the orders are where they should be.
func (e *edited) arrive(bodies []string) {
	e.t.Helper()
	for _, name := range []string{e.Sink, e.Topic} {
		// What a NATS Streaming server has sent to a pod that ends it sends to another one after its ackWaitTime, which is 30 s.
		e.eventually(90*time.Second, "orders at "+name, func() error { return e.at[name].missing(bodies...) })
	}
}

var edits = []struct {
	name string
	edit func(*edited)
	// want are the children that change.
	want []string
}{
	{"a condition", func(e *edited) { e.Condition = "\"order.data.order != 'none'\"" }, []string{"changed Secret default/trigger-orders"}},
	{"a sink", func(e *edited) { e.Sink = "two" }, []string{"changed Secret default/trigger-orders"}},
	{"a topic", func(e *edited) { e.Topic = "ordered-too" }, []string{"changed Secret default/trigger-orders"}},
	{"brokers and their topic", func(e *edited) { e.Brokers, e.Records = "too.kafka:9092", "orders-too" },
		[]string{"changed Secret default/eventsource-shop-kafka-order"}},
	{"the name of an event", func(e *edited) { e.Event = "tock" }, []string{
		"changed Secret default/trigger-ticks",
		"gone Deployment default/eventsource-clock-cron-tick", "gone Role default/eventsource-clock-cron-tick",
		"gone RoleBinding default/eventsource-clock-cron-tick", "gone Secret default/eventsource-clock-cron-tick",
		"gone ServiceAccount default/eventsource-clock-cron-tick",
		"new Deployment default/eventsource-clock-cron-tock", "new Role default/eventsource-clock-cron-tock",
		"new RoleBinding default/eventsource-clock-cron-tock", "new Secret default/eventsource-clock-cron-tock",
		"new ServiceAccount default/eventsource-clock-cron-tock",
	}},
	{"where the bus is", func(e *edited) { e.Nats = "nats-too.default" }, []string{
		"changed Secret default/eventsource-clock-cron-tock", "changed Secret default/eventsource-shop-kafka-order",
		"changed Secret default/trigger-orders", "changed Secret default/trigger-ticks", "changed Secret openfunction/events-gateway-plan",
	}},
}

// edit wants only these children to change, and no pod but those of Deployments that are new.
func (e *edited) edit(edit func(*edited), want []string) {
	e.t.Helper()
	before, pods := e.children(), e.workloadPods()
	edit(e)
	e.apply()
	e.flows()
	e.eventually(30*time.Second, "the changed children", func() error {
		if diff := cmp.Diff(want, changes(before, e.children())); diff != "" {
			return fmt.Errorf("changes (-want, +got):\n%s", diff)
		}
		return nil
	})
	after := e.workloadPods()
	for workload, pod := range pods {
		if !slices.Contains(want, "gone Deployment default/"+workload) && after[workload] != pod {
			e.t.Errorf("the pod of %s was %s and is %s", workload, pod, after[workload])
		}
	}
}

// correct leads the orders to where nobody answers, and then back.
func (e *edited) correct() {
	e.t.Helper()
	right := e.Sink
	e.knativeService("default", "nobody", "http://127.0.0.1:1")
	e.Sink = "nobody"
	e.apply()
	bodies := e.produce(5)
	e.eventually(30*time.Second, "the orders at the topic", func() error { return e.at[e.Topic].missing(bodies...) })
	e.Sink = right
	e.apply()
	e.arrive(bodies)
}

// child is what tells versions of an object apart. A Deployment has another resource version whenever a pod was not ready for a moment.
type child struct {
	Kind     string
	Metadata struct {
		Namespace, Name, UID, ResourceVersion string
		Generation                            int64
	}
}

// list returns objects by kind and name.
func (i *installation) list(kinds string) map[string]child {
	i.t.Helper()
	var all struct{ Items []child }
	out := i.Kubectl("get", kinds, "-A", "-l", "app.kubernetes.io/managed-by=events-controller", "-o", "json")
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		i.t.Fatal(err)
	}
	found := map[string]child{}
	for _, c := range all.Items {
		if c.Kind == "Deployment" {
			c.Metadata.ResourceVersion = ""
		}
		found[c.Kind+" "+c.Metadata.Namespace+"/"+c.Metadata.Name] = c
	}
	return found
}

func (i *installation) children() map[string]child {
	i.t.Helper()
	return i.list("deployment,secret,role,rolebinding,serviceaccount")
}

func changes(before, after map[string]child) []string {
	var all []string
	for name, b := range before {
		if a, ok := after[name]; !ok {
			all = append(all, "gone "+name)
		} else if a != b {
			all = append(all, "changed "+name)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			all = append(all, "new "+name)
		}
	}
	slices.Sort(all)
	return all
}

// workloadPods are the pods and how often they were restarted, by workload.
func (i *installation) workloadPods() map[string]string {
	i.t.Helper()
	out := i.Kubectl("get", "pods", "-l", "app.kubernetes.io/managed-by=events-controller", "-o",
		`jsonpath={range .items[*]}{.metadata.labels.events\.openfunction\.io/workload} {.metadata.name} restarted {.status.containerStatuses[0].restartCount}{"\n"}{end}`)
	pods := map[string]string{}
	for line := range strings.Lines(out) {
		workload, pod, _ := strings.Cut(strings.TrimSpace(line), " ")
		pods[workload] += pod
	}
	return pods
}

// deleteChildren deletes every child of two workloads while orders come, each by itself, then all at once.
func (e *edited) deleteChildren() {
	e.t.Helper()
	// The sink was edited, so the subscription has the name of the one before: who deletes the Secret must not make it another.
	names := func() string { return e.Kubectl("get", "tg", "orders", "-o", "jsonpath={.status.subscriptions}") }
	before := names()
	if !strings.Contains(before, `"key":`) {
		e.t.Errorf("subscriptions %s, want one that is inherited", before)
	}
	defer func() {
		if after := names(); after != before {
			e.t.Errorf("the subscriptions were %s and are %s", before, after)
		}
	}()
	var sent []string
	send := func() { sent = append(sent, e.produce(3)...) }
	for _, name := range []string{"trigger-orders", "eventsource-shop-kafka-order"} {
		for _, kinds := range [][]string{
			{"Deployment"}, {"Secret"}, {"Role"}, {"RoleBinding"}, {"ServiceAccount"},
			{"Secret", "Deployment"}, {"ServiceAccount", "Secret", "Role", "RoleBinding", "Deployment"},
		} {
			before := e.children()
			send()
			for _, kind := range kinds {
				e.Kubectl("delete", kind, name, "--wait=false")
			}
			send()
			begin := time.Now()
			e.eventually(30*time.Second, strings.Join(kinds, ", ")+" "+name, func() error {
				now := e.children()
				for _, kind := range kinds {
					key := kind + " default/" + name
					if c, ok := now[key]; !ok || c.Metadata.UID == before[key].Metadata.UID {
						return fmt.Errorf("%s did not come back", key)
					}
				}
				return nil
			})
			send()
			e.arrive(sent)
			e.t.Logf("%s of %s: %d events have arrived %s after the deletion", strings.Join(kinds, ", "), name, len(sent), time.Since(begin).Round(10*time.Millisecond))
		}
	}
}

// deleteRights deletes what lets gateways read their plans, and ends their watches, which must not be all that lets them follow.
func (e *edited) deleteRights() {
	e.t.Helper()
	servers.NeedsOwnKubernetes(e.t, "kills the API server")
	for _, name := range []string{"trigger-orders", "eventsource-shop-kafka-order"} {
		for _, kind := range []string{"Role", "RoleBinding", "ServiceAccount"} {
			e.Kubectl("delete", kind, name)
		}
	}
	e.KillAPIServer()
	e.StartAPIServer()
	e.Condition, e.Brokers = "order", "dapr-kafka.kafka:9092"
	e.apply()
	e.flows()
}

// posted declares an EventSource of HTTP events with a bus and a sink.
func (e *edited) posted(name, sink, deadLetterSink string) {
	e.t.Helper()
	e.applyIn("default", fmt.Sprintf(`{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: %s}, spec: {
		http: {posted: {}}, eventBus: default, sink: {uri: %q}, deadLetterSink: {uri: %q}}}`, name, sink, deadLetterSink))
	e.ready(30*time.Second, "es/"+name)
}

// deletePlan deletes the plan of the shared gateway while events come for a sink that was edited.
func (e *edited) deletePlan() {
	e.t.Helper()
	s := newSink(e.t)
	uid := func() string {
		return e.Kubectl("-n", "openfunction", "get", "secret", "events-gateway-plan", "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")
	}
	names := func() string { return e.Kubectl("get", "es", "web", "-o", "jsonpath={.status.subscriptions[*].name}") }
	e.posted("web", "http://127.0.0.1:1", s.URL)
	before := names()
	e.posted("web", s.URL, s.URL)
	l := e.loadOf(50, "default/web/posted")
	e.passes(l, 50, s)
	deleted := uid()
	e.Kubectl("-n", "openfunction", "delete", "secret", "events-gateway-plan")
	e.eventually(30*time.Second, "the plan", func() error {
		if now := uid(); now == "" || now == deleted {
			return fmt.Errorf("it does not come back")
		}
		return nil
	})
	e.passes(l, 200, s)
	e.posted("web", s.URL+"/edited", s.URL) // The gateway follows the new one.
	e.passes(l, 50, s)
	l.stop()
	if _, refusals, _ := l.end(); len(refusals) > 0 {
		e.t.Errorf("%d events were refused: %s", len(refusals), refusals[0])
	}
	e.eventually(90*time.Second, "all events", func() error { return s.missing(l.taken...) })
	if after := names(); before == "" || after != before {
		e.t.Errorf("the subscriptions were %q and are %q", before, after)
	}
}

// changeDefaults wants a dead letter at once, and not after the three minutes of the default, and nothing else to change.
func (e *edited) changeDefaults() {
	e.t.Helper()
	letters := newSink(e.t)
	e.posted("refused", "http://127.0.0.1:1", letters.URL)
	same := func() string {
		return e.pods("default", "app.kubernetes.io/name=openfunction-events") + e.pods("openfunction", "app.kubernetes.io/name=openfunction-events") +
			e.Kubectl("get", "eventsources,eventbuses,triggers,deployments", "-A", "-o", `jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.generation}; {end}`)
	}
	before := same()
	retry := func(value string) {
		e.Kubectl("-n", "openfunction", "patch", "configmap", "config-defaults", "-p", `{"data": {"delivery.retry": `+value+`}}`)
	}
	retry(`"0"`)
	defer retry("null")
	begin := time.Now()
	e.eventually(time.Minute, "a dead letter", func() error {
		e.posts("default/refused/posted", unique(), http.StatusAccepted)
		if len(letters.received()) == 0 {
			return fmt.Errorf("none came")
		}
		return nil
	})
	e.t.Logf("a dead letter came %s after the change", time.Since(begin).Round(10*time.Millisecond))
	if after := same(); after != before {
		e.t.Errorf("what should stay was %s and is %s", before, after)
	}
}

// relabels takes the label from children by which the controller sees them: it finds them all the same, and gives it back.
func (i *installation) relabels(namespace string, children ...string) {
	i.t.Helper()
	in := []string{"-n", namespace}
	i.Kubectl(slices.Concat(in, []string{"label"}, children, []string{"app.kubernetes.io/name-"})...)
	i.eventually(60*time.Second, "labels", func() error {
		out, err := i.Try(slices.Concat(in, []string{"get"}, children, []string{"--show-labels", "--no-headers"})...)
		if err == nil && strings.Count(out, "app.kubernetes.io/name=openfunction-events") != len(children) {
			err = fmt.Errorf("there are only\n%s", out)
		}
		return err
	})
}

// touch annotates all objects, and wants nothing to be written or told but that, and no Deployment to have been changed ever.
func (e *edited) touch() {
	e.t.Helper()
	events := e.events()
	e.installation.touch("eventbuses", "eventsources", "triggers")
	if diff := cmp.Diff(events, e.events()); diff != "" {
		e.t.Errorf("Kubernetes Events (-before, +after):\n%s", diff)
	}
	for name, c := range e.children() {
		if c.Kind == "Deployment" && c.Metadata.Generation != 1 {
			e.t.Errorf("%s has generation %d, want 1", name, c.Metadata.Generation)
		}
	}
}

// touch has the controller look at all objects of these kinds, and wants it to write nothing.
func (i *installation) touch(kinds ...string) {
	i.t.Helper()
	if !i.Ours() {
		i.t.Log("what is written is not counted: it may be others who write to this cluster")
		return
	}
	before, writes := i.children(), i.writes()
	for _, kind := range kinds {
		i.Kubectl("annotate", kind, "--all", "touched=yes")
	}
	time.Sleep(10 * time.Second) // This long nothing may be written.
	if diff := changes(before, i.children()); diff != nil {
		i.t.Errorf("children changed: %s", strings.Join(diff, "; "))
	}
	if diff := growth(writes, i.writes()); len(diff) > 0 {
		i.t.Errorf("written: %v", diff)
	}
}

// events are the Kubernetes Events about declared objects, and how often each was told.
func (e *edited) events() string {
	e.t.Helper()
	all := e.Kubectl("get", "events", "-A", "--field-selector=involvedObject.apiVersion=events.openfunction.io/v1alpha1", "--sort-by=.metadata.name", "-o",
		`jsonpath={range .items[*]}{.count} x {.involvedObject.kind} {.involvedObject.name}: {.reason}{"\n"}{end}`)
	if !strings.Contains(all, "Trigger orders: Ready") {
		e.t.Fatalf("nothing tells that a Trigger is ready:\n%s", all)
	}
	return all
}

// deleteTrigger looks on the bus for the subscriptions of two Triggers, one of which goes.
func (e *edited) deleteTrigger() {
	e.t.Helper()
	server := servers.JetStream(e.t)
	e.forwardService("js", "js", "4222", strings.TrimPrefix(server.URL(), "nats://"))
	stays, goes := newSink(e.t), newSink(e.t)
	e.applyIn("js", `{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: default}, spec: {jetStream: {url: "nats://js.js:4222"}}}`)
	e.applyIn("js", `{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: es}, spec: {http: {posted: {}}}}`)
	subscribe := func(name string, at *sink) {
		e.applyIn("js", fmt.Sprintf(`{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: %s}, spec: {
			inputs: {posted: {eventSource: es, event: posted}}, subscribers: [{condition: posted, sink: {uri: %q}}]}}`, name, at.URL))
	}
	flows := func(to ...*sink) {
		e.ready(60*time.Second, "-n", "js", "es/es", "tg/stays", "tg/goes")
		body := unique()
		e.posts("js/es/posted", body, http.StatusAccepted)
		for _, s := range to {
			e.eventually(30*time.Second, "the event", func() error { return s.missing(body) })
		}
	}
	subscriptions := func(want ...string) {
		begin := time.Now()
		e.eventually(15*time.Second, "the subscriptions", func() error {
			if diff := cmp.Diff(want, e.consumers(server.URL())); diff != "" {
				return fmt.Errorf("(-want, +got):\n%s", diff)
			}
			return nil
		})
		e.t.Logf("the bus has %v after %s", want, time.Since(begin).Round(10*time.Millisecond))
	}
	subscribe("stays", stays)
	subscribe("goes", goes)
	flows(stays, goes)
	subscriptions("js_goes", "js_stays")
	moved := newSink(e.t)
	subscribe("goes", moved) // is another subscription
	flows(stays, moved)
	subscriptions("js_goes", "js_stays")
	e.Kubectl("-n", "js", "delete", "tg", "goes")
	subscriptions("js_stays")
	body := unique()
	e.posts("js/es/posted", body, http.StatusAccepted)
	e.eventually(30*time.Second, "the event", func() error { return stays.missing(body) })
}

// consumers are the durable subscriptions to events on a JetStream server, by the names of their Triggers.
func (e *edited) consumers(url string) []string {
	e.t.Helper()
	conn, err := nats.Connect(url)
	if err != nil {
		e.t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		e.t.Fatal(err)
	}
	stream, err := js.Stream(e.t.Context(), "openfunction-events")
	if err != nil {
		e.t.Fatal(err)
	}
	names := stream.ConsumerNames(e.t.Context())
	var all []string
	for name := range names.Name() {
		if !strings.Contains(name, "~") { // the bus's own
			all = append(all, name[:strings.LastIndexByte(name, '_')]) // without its hash
		}
	}
	slices.Sort(all)
	if names.Err() != nil {
		e.t.Fatal(names.Err())
	}
	return all
}
