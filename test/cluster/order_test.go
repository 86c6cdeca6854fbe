//go:build e2e

package cluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openfunction/events/test/servers"
)

// TestE2EOrder applies objects in any order, lets what they refer to come, go and move, and wants them to follow by themselves.
func TestE2EOrder(t *testing.T) {
	servers.Alone(t) // it measures time
	i := install(t)
	nats := servers.NATSStreaming(t)
	i.forwardService("default", "nats", "4222", strings.TrimPrefix(nats.URL(), "nats://"))
	s := newSink(t)
	gateway := i.pods("openfunction", "app.kubernetes.io/component=gateway")

	k := newKeeper(t, i)
	if !t.Run("a Secret comes piece by piece", func(t *testing.T) { k.in(t).comes() }) {
		return
	}
	k.rotates()                // which takes a minute
	latest := map[int]string{} // the namespaces, by order
	for n, tt := range orders {
		t.Run(tt.name, func(t *testing.T) {
			want := 5 * time.Second
			if slices.ContainsFunc(tt.steps, func(s step) bool { return s.piece == "embedded bus" }) {
				want = 10 * time.Second // its server is a pod with a volume of its own
			}
			i.in(t).soon(want, func(try int) time.Duration {
				latest[n] = fmt.Sprintf("order-%d-%d", n, try)
				return i.in(t).applies(latest[n], tt.sinkKind, tt.steps, s)
			})
		})
	}
	t.Run("a sink moves", func(t *testing.T) { i.in(t).sinkMoves(latest[0]) })
	t.Run("an EventSource of another namespace allows and forbids", func(t *testing.T) { i.in(t).allows() })
	t.Run("http events come and go", func(t *testing.T) { i.in(t).routesChange() })
	t.Run("Knative's controllers find where to send to", func(t *testing.T) { i.in(t).resolves(latest[0]) })
	t.Run("a Secret has changed while events passed", func(t *testing.T) { k.in(t).rotated() })

	if got := i.pods("openfunction", "app.kubernetes.io/component=gateway"); got != gateway {
		t.Errorf("the shared gateway was %s and is %s", gateway, got)
	}
}

// step applies a piece, and then the Trigger, if there is one, says why it is not ready.
type step struct{ piece, reason string }

const (
	knative = "{apiVersion: serving.knative.dev/v1, kind: Service, name: sink}"
	core    = "{apiVersion: v1, kind: Service, name: sink}"
)

var orders = []struct {
	name     string
	sinkKind string
	steps    []step
}{
	{"Trigger, EventSource, bus, sink with its kind", knative,
		[]step{{"trigger", "BusNotFound"}, {"eventsource", "BusNotFound"}, {"bus", "SinkNotResolved"}, {"sink", ""}}},
	{"EventSource, sink, Trigger, bus", core,
		[]step{{"eventsource", ""}, {"sink", ""}, {"trigger", "BusNotFound"}, {"bus", ""}}},
	{"bus, Trigger, sink, EventSource", knative,
		[]step{{"bus", ""}, {"trigger", "EventSourceNotFound"}, {"sink", "EventSourceNotFound"}, {"eventsource", ""}}},
	{"bus, EventSource, Trigger, sink", core,
		[]step{{"bus", ""}, {"eventsource", ""}, {"trigger", "SinkNotResolved"}, {"sink", ""}}},
	{"sink, bus, EventSource, Trigger", core,
		[]step{{"sink", ""}, {"bus", ""}, {"eventsource", ""}, {"trigger", ""}}},
	{"sink, EventSource, Trigger, embedded bus", core,
		[]step{{"sink", ""}, {"eventsource", ""}, {"trigger", "BusNotFound"}, {"embedded bus", ""}}},
}

const (
	orderBus = `{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: default},
		spec: {natsStreaming: {natsURL: "nats://nats.default:4222", natsStreamingClusterID: stan}}}`
	orderEmbedded    = `{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: default}, spec: {embedded: {storage: 64Mi}}}`
	orderEventSource = `{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: es},
		spec: {http: {posted: {}}, cron: {tick: {schedule: "@every 1h"}}}}`
	orderTrigger = `{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: t},
		spec: {inputs: {posted: {eventSource: es, event: posted}, tick: {eventSource: es, event: tick}},
		subscribers: [{condition: posted || tick, sink: {ref: %s}}]}}`
)

// soon tries something, and wants the median of three of what it returns, how long an object took to be ready, to be at most what is wanted: two of
// three have to be. The third is spared where the first two agree. A machine that others use may stop for seconds once. The objects of each try
// are new.
func (i *installation) soon(want time.Duration, try func(n int) time.Duration) {
	i.t.Helper()
	var all []time.Duration
	for in, out := 0, 0; in < 2 && out < 2; {
		took := try(len(all))
		all = append(all, took.Round(10*time.Millisecond))
		if took <= want {
			in++
		} else {
			out++
		}
		if out == 2 {
			i.t.Errorf("all was ready %s after the last piece, want the median within %s", all, want)
		}
	}
	i.t.Logf("all was ready %s after the last piece", all)
}

// applies applies the pieces one after the other to a namespace of their own. It returns how long after the last one all was ready.
func (i *installation) applies(namespace, sinkKind string, steps []step, s *sink) time.Duration {
	i.t.Helper()
	i.namespace(namespace)
	if sinkKind == knative && steps[0].piece == "trigger" { // the kind comes with the sink, also when this is tried again
		i.Kubectl("delete", "crd", "services.serving.knative.dev", "--ignore-not-found")
	}
	pieces := map[string]func(){
		"bus":          func() { i.applyIn(namespace, orderBus) },
		"embedded bus": func() { i.applyIn(namespace, orderEmbedded) },
		"eventsource":  func() { i.applyIn(namespace, orderEventSource) },
		"trigger":      func() { i.applyIn(namespace, fmt.Sprintf(orderTrigger, sinkKind)) },
		"sink": func() {
			if sinkKind == core {
				i.forwardService(namespace, "sink", "80", strings.TrimPrefix(s.URL, "http://"))
				return
			}
			i.defineKnative()
			i.knativeService(namespace, "sink", s.URL)
		},
	}
	for n, step := range steps {
		pieces[step.piece]()
		if step.reason != "" {
			i.says(20*time.Second, namespace, "tg/t", "False "+step.reason+" Error")
		}
		if n == 0 && step.piece == "trigger" {
			if strings.HasSuffix(namespace, "-0") {
				i.quiet()
			}
			i.told(namespace, "t", "Warning "+step.reason) // once, in ten seconds of trying
		}
	}
	took := i.ready(time.Minute, "-n", namespace, "eb/default", "es/es", "tg/t")
	if steps[0].piece == "trigger" {
		i.told(namespace, "t", "Warning "+steps[0].reason, "Normal Ready")
	}
	body := unique()
	i.posts(namespace+"/es/posted", body, http.StatusAccepted)
	i.eventually(30*time.Second, "the event at the sink", func() error { return s.missing(body) })
	return took
}

// told wants these Kubernetes Events about a Trigger, each once, and besides them at most some about what was still to come.
func (i *installation) told(namespace, trigger string, want ...string) {
	i.t.Helper()
	i.eventually(20*time.Second, "Kubernetes Events of "+trigger, func() error {
		all, err := i.Try("-n", namespace, "get", "events", "--field-selector=involvedObject.kind=Trigger,involvedObject.name="+trigger,
			"--sort-by=.metadata.name", "-o", `jsonpath={range .items[*]}{.count} x {.type} {.reason}: {.message}{"\n"}{end}`)
		if err != nil {
			return err
		}
		var told []string
		for line := range strings.Lines(all) {
			what, _, _ := strings.Cut(line, ":")
			what, once := strings.CutPrefix(what, "1 x ")
			if !once || slices.Contains(told, what) {
				i.t.Fatalf("more than once:\n%s", all)
			}
			told = append(told, what)
		}
		told = slices.DeleteFunc(told, func(what string) bool { return strings.HasPrefix(what, "Normal") && what != "Normal Ready" })
		if !slices.Equal(told, want) {
			return fmt.Errorf("got %q, want %q", all, want)
		}
		return nil
	})
}

// quiet wants the controller to keep its patience in the log, while something is missing.
func (i *installation) quiet() {
	i.t.Helper()
	before := len(i.controllerLog())
	time.Sleep(10 * time.Second) // This long it must not complain.
	lines := i.controllerLog()[before:]
	if complaints := regexp.MustCompile(`(?m)^.*"severity":"(?i:warn|error).*$`).FindAllString(lines, -1); len(complaints) > 0 {
		i.t.Errorf("%d complaints within 10 s, the first is\n%s", len(complaints), complaints[0])
	}
	i.t.Logf("%d lines within 10 s", strings.Count(lines, "\n"))
}

func (i *installation) controllerLog() string {
	i.t.Helper()
	return i.Kubectl("-n", "openfunction", "logs", "deployment/events-controller")
}

func (i *installation) sinkMoves(namespace string) {
	i.t.Helper()
	pods := i.pods(namespace, "events.openfunction.io/trigger=t")
	moved := newSink(i.t)
	i.knativeService(namespace, "sink", moved.URL)
	begin := time.Now()
	i.eventually(5*time.Second, "events at the new address", func() error {
		i.posts(namespace+"/es/posted", unique(), http.StatusAccepted)
		if len(moved.received()) == 0 {
			return fmt.Errorf("none came")
		}
		return nil
	})
	i.t.Logf("followed within %s", time.Since(begin).Round(10*time.Millisecond))
	if got := i.pods(namespace, "events.openfunction.io/trigger=t"); got != pods {
		i.t.Errorf("the Trigger's pod was %s and is %s", pods, got)
	}
}

func (i *installation) allows() {
	i.t.Helper()
	const allowed = `{"spec": {"allowedNamespaces": %s}}`
	witness, s := newSink(i.t), newSink(i.t)
	i.namespace("owner")
	i.namespace("guest")
	i.Apply(`{apiVersion: events.openfunction.io/v1alpha1, kind: ClusterEventBus, metadata: {name: shared},
  spec: {natsStreaming: {natsURL: "nats://nats.default:4222", natsStreamingClusterID: stan}}}`)
	i.applyIn("owner", `{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: es},
		spec: {eventBus: shared, http: {posted: {}}}}`)
	for namespace, at := range map[string]*sink{"owner": witness, "guest": s} {
		i.applyIn(namespace, fmt.Sprintf(`{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: t},
			spec: {eventBus: shared, inputs: {posted: {namespace: owner, eventSource: es, event: posted}},
			subscribers: [{condition: posted, sink: {uri: %q}}]}}`, at.URL))
	}
	i.ready(20*time.Second, "-n", "owner", "ceb/shared", "es/es", "tg/t")
	i.says(10*time.Second, "guest", "tg/t", "False NotAllowed Error")
	forbidden := []string{unique(), unique()}
	i.posts("owner/es/posted", forbidden[0], http.StatusAccepted)
	i.eventually(10*time.Second, "the event at the witness", func() error { return witness.missing(forbidden[0]) })

	i.Kubectl("-n", "owner", "patch", "es", "es", "--type=merge", "-p", fmt.Sprintf(allowed, `["guest"]`))
	took := i.says(30*time.Second, "guest", "tg/t", "True  Running")
	i.t.Logf("ready %s after it was allowed", took.Round(10*time.Millisecond))
	body := unique()
	i.posts("owner/es/posted", body, http.StatusAccepted)
	i.eventually(10*time.Second, "the event at the guest", func() error { return s.missing(body) })

	i.Kubectl("-n", "owner", "patch", "es", "es", "--type=merge", "-p", fmt.Sprintf(allowed, "[]"))
	took = i.says(30*time.Second, "guest", "tg/t", "False NotAllowed Error")
	i.eventually(20*time.Second, "the end of the workload", func() error {
		out, err := i.Try("-n", "guest", "get", "deployment,pod", "-o", "name")
		if err == nil && out != "" {
			err = fmt.Errorf("there still is %s", out)
		}
		return err
	})
	i.t.Logf("stopped %s after it was forbidden", took.Round(10*time.Millisecond))
	i.posts("owner/es/posted", forbidden[1], http.StatusAccepted)
	i.eventually(10*time.Second, "the event at the witness", func() error { return witness.missing(forbidden...) })
	for _, body := range forbidden {
		if s.missing(body) == nil {
			i.t.Errorf("the guest got %s, which it was not allowed to", body)
		}
	}
}

// routesChange adds and removes events while another one is posted to all the time.
func (i *installation) routesChange() {
	i.t.Helper()
	i.namespace("web")
	i.applyIn("web", orderBus)
	i.applyIn("web", `{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: other}, spec: {http: {steady: {}}}}`)
	i.applyIn("web", `{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: es}, spec: {http: {steady: {}}}}`)
	i.ready(30*time.Second, "-n", "web", "eb/default", "es/es", "es/other")
	check := i.postAlways("web/es/steady", "web/other/steady")
	for range 5 {
		i.Kubectl("-n", "web", "patch", "es", "es", "--type=merge", "-p", `{"spec": {"http": {"new": {}}}}`)
		took := i.ready(30*time.Second, "-n", "web", "es/es", "es/other")
		begin := time.Now()
		i.answers(2*time.Second, "web/es/new", http.StatusAccepted)
		i.t.Logf("ready within %s, served %s later", took.Round(10*time.Millisecond), time.Since(begin).Round(time.Millisecond))

		i.Kubectl("-n", "web", "patch", "es", "es", "--type=merge", "-p", `{"spec": {"http": {"new": null}}}`)
		i.ready(30*time.Second, "-n", "web", "es/es", "es/other")
		begin = time.Now()
		i.answers(3*time.Second, "web/es/new", http.StatusNotFound)
		i.t.Logf("gone %s after it was ready", time.Since(begin).Round(time.Millisecond))
	}
	check()
}

// postAlways posts to the paths, one after the other, until the function that it returns is called, which fails the test if anything but
// 202 was the answer.
func (i *installation) postAlways(paths ...string) (check func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var posting sync.WaitGroup
	posted, failures := 0, []error{}
	address := i.ingress()
	posting.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
			path := paths[posted%len(paths)]
			posted++
			if status, err := post(address+path, unique()); err != nil || status != http.StatusAccepted {
				failures = append(failures, fmt.Errorf("post to %s: %d (%w)", path, status, err))
			}
		}
	})
	stop := func() { cancel(); posting.Wait() }
	i.t.Cleanup(stop)
	return func() {
		i.t.Helper()
		stop()
		if len(failures) > 0 || posted < 100 {
			i.t.Errorf("%d of %d events were not taken: %v", len(failures), posted, failures[:min(len(failures), 3)])
		}
		i.t.Logf("%d other events were taken meanwhile", posted)
	}
}

// in is the installation for a subtest.
func (i *installation) in(t *testing.T) *installation {
	c := *i
	c.t = t
	return &c
}

func (i *installation) applyIn(namespace, manifest string) {
	i.t.Helper()
	manifest = strings.ReplaceAll(manifest, "\t", " ") // which YAML takes for no space
	if _, err := i.TryApply(strings.Replace(manifest, "metadata: {", "metadata: {namespace: "+namespace+", ", 1)); err != nil {
		i.t.Fatal(err)
	}
}

// says waits until the object's status is about its latest generation and says `status reason state`. It returns how long that took.
func (i *installation) says(within time.Duration, namespace, object, want string) time.Duration {
	i.t.Helper()
	begin := time.Now()
	i.eventually(within, namespace+" "+object, func() error {
		out, err := i.Try("-n", namespace, "get", object, "-o", `jsonpath={.metadata.generation}/{.status.observedGeneration} `+
			`{.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].reason} {.status.state}`)
		if err != nil {
			return err
		}
		generations, got, _ := strings.Cut(out, " ")
		if a, b, _ := strings.Cut(generations, "/"); a != b || got != want {
			return fmt.Errorf("generation/observed %s: got %q, want %q", generations, got, want)
		}
		return nil
	})
	return time.Since(begin)
}

// pods says which pods there are, and how often they were restarted.
func (i *installation) pods(namespace, selector string) string {
	i.t.Helper()
	return i.Kubectl("-n", namespace, "get", "pods", "-l", selector, "-o",
		`jsonpath={range .items[*]}{.metadata.name}, restarted {.status.containerStatuses[0].restartCount} times; {end}`)
}

// ingress is where events are posted, with a slash at the end.
func (i *installation) ingress() string {
	i.t.Helper()
	return "http://" + i.gateway() + "/"
}

// gateway is where this machine reaches the shared gateway.
func (i *installation) gateway() string {
	i.t.Helper()
	if i.Ours() {
		return i.Kubectl("-n", "openfunction", "get", "service", "events-gateway", "-o", "jsonpath={.spec.clusterIP}") + ":80"
	}
	pod := i.Kubectl("-n", gateways.namespace, "get", "pods", "-l", gateways.selector, "-o", "jsonpath={.items[0].metadata.name}")
	return i.Forward(gateways.namespace, pod, 8080)
}

// posts sends an event to the path once, and wants this answer.
func (i *installation) posts(path, body string, want int) {
	i.t.Helper()
	if got, err := post(i.ingress()+path, body); err != nil || got != want {
		i.t.Fatalf("post to %s: %d (%v), want %d", path, got, err, want)
	}
}

// answers sends events to the path until this is the answer.
func (i *installation) answers(within time.Duration, path string, want int) {
	i.t.Helper()
	address := i.ingress() + path
	i.eventually(within, "post to "+path, func() error {
		got, err := post(address, unique())
		if err == nil && got != want {
			err = fmt.Errorf("got %d, want %d", got, want)
		}
		return err
	})
}

// post sends an event in binary mode.
func post(url, body string) (status int, err error) {
	return postWith(&http.Client{Timeout: 10 * time.Second}, url, body)
}

func postWith(client *http.Client, url, body string) (status int, err error) {
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	for name, value := range map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": rand.Text(), "Ce-Source": "/test", "Ce-Type": "test", "Content-Type": "application/json",
	} {
		r.Header.Set(name, value)
	}
	answer, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}
