//go:build e2e

package cluster

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	clientset "github.com/openfunction/events/pkg/client/clientset/versioned"
	informers "github.com/openfunction/events/pkg/client/informers/externalversions"
	"github.com/openfunction/events/test/servers"
)

// scaleSizes, in the environment, says how many EventSources, and as many Triggers, there are to be one after the other.
const scaleSizes = "CLUSTER_TEST_SIZES"

// linear bounds how many times more than the first objects the later ones may cost, each, in writes and memory. Time is the machine's too:
// slower bounds it, widely.
const (
	linear = 1.7
	slower = 3
)

const (
	scaleBus = `{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {name: default, namespace: scale},
  spec: {jetStream: {url: "nats://js.default:4222"}}}`
	scalePair = `---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: es-%[1]d, namespace: scale}
spec: {http: {posted: {}}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t-%[1]d, namespace: scale}
spec:
  inputs: {posted: {eventSource: es-%[1]d, event: posted}}
  subscribers: [{condition: posted, sink: {uri: %[2]q}}]
`
)

// TestE2EScale adds more and more objects, and wants each to cost what the first ones did. Once all are ready nothing may be written.
func TestE2EScale(t *testing.T) {
	servers.NeedsOwnKubernetes(t, "measures processes of pods")
	servers.Alone(t) // it measures time
	i := install(t)
	jetStream(t, i)
	s := newSink(t)
	i.namespace("scale")
	i.eventually(time.Minute, "a bus", func() error {
		_, err := i.TryApply(scaleBus)
		return err
	})
	i.ready(time.Minute, "-n", "scale", "eb")
	gateway := servers.Build(t, ".", "./cmd/gateway", "gateway")
	controller := servers.Build(t, ".", "./cmd/controller", "controller")

	watched := i.watch()

	idle := memory(t, controller, "VmRSS")[0]
	t.Logf("the controller has %.1f MiB before the first object, the shared gateway %.1f MiB of its own", idle, memory(t, gateway, "RssAnon")[0])
	t.Logf("%8s %8s %10s %10s %14s %14s %16s %16s", "objects", "created", "ready", "s/object", "writes/object", "requests/obj.", "controller MiB", "pod MiB (mean)")
	var first cost
	from := 0
	for stage, size := range sizes(t) {
		c := i.grow(from, size, s.URL, watched)
		c.memory = memory(t, controller, "VmRSS")[0] - idle
		pods := memory(t, gateway, "RssAnon")
		t.Logf("%8d %7.1fs %9.1fs %9.3fs %14.2f %14.2f %16.1f %16.1f", 2*size, c.created.Seconds(), c.ready.Seconds(),
			c.each(c.ready.Seconds()), c.each(float64(c.written)), c.each(float64(c.requests)), c.memory, sum(pods)/float64(len(pods)))
		for _, of := range slices.Sorted(maps.Keys(c.of)) {
			t.Logf("%*s%-32s %6d %7.2f", 30, "", of, c.of[of], c.each(float64(c.of[of])))
		}
		i.logSteps(from, size)
		if len(pods) != size+1 {
			t.Errorf("%d gateways run, want the shared one and one for each of %d Triggers", len(pods), size)
		}
		if stage == 0 {
			first = c
		}
		for what, costs := range map[string][2]float64{
			"written":             {first.each(float64(first.written)), c.each(float64(c.written))},
			"controller's memory": {first.memory / float64(first.to), c.memory / float64(c.to)},
		} {
			if costs[1] > linear*costs[0] {
				t.Errorf("%s: %.3f for each of %d objects, and %.3f for each of the first %d", what, costs[1], 2*size, costs[0], 2*first.to)
			}
		}
		times := c.each(c.ready.Seconds()) / first.each(first.ready.Seconds())
		t.Logf("%d objects took %.2f times as long as the first, each", 2*(size-from), times)
		if times > slower {
			t.Errorf("%d objects took %.2f times as long as the first, each: want %d times at most", 2*(size-from), times, slower)
		}
		from = size
	}
	body := unique()
	i.posts(fmt.Sprintf("scale/es-%d/posted", from-1), body, 202)
	i.eventually(10*time.Second, "the event at the sink", func() error { return s.missing(body) })

	// A machine that starts hundreds of processes may starve one for longer than its probes allow.
	n := watched.lapses()
	t.Logf("%d times an object was ready and then not", n)
	if n > from/20 {
		t.Errorf("readiness comes and goes: %d times of %d objects", n, 2*from)
	}
	before, spent := i.writes(), map[string]time.Duration{controller: processorTime(t, controller), gateway: processorTime(t, gateway)}
	const quiet = 15 * time.Second
	time.Sleep(quiet) // This long nothing may be written.
	for program, before := range spent {
		each := (processorTime(t, program) - before).Seconds() / float64(len(memory(t, program, "VmRSS")))
		t.Logf("while nothing happens each %s takes %.1f ms of processor time a second", filepath.Base(program), 1000*each/quiet.Seconds())
	}
	if diff := growth(before, i.writes()); len(diff) > 0 {
		t.Errorf("written while nothing happened: %v", diff)
	}
}

// cost is what it took to add EventSources and Triggers, from as many to as many of each.
type cost struct {
	from, to       int
	created, ready time.Duration // both from the beginning
	written        int           // by the controller
	requests       int           // to the API server, by anybody
	of             map[string]int
	memory         float64 // of the controller, for all objects, in MiB
}

// each divides by the number of objects.
func (c cost) each(total float64) float64 { return total / float64(2*(c.to-c.from)) }

// grow creates pairs of an EventSource and a Trigger, and waits until all are ready.
func (i *installation) grow(from, to int, sink string, watched *watch) cost {
	i.t.Helper()
	c := cost{from: from, to: to}
	before, requests := i.writes(), i.requests()
	var creating errgroup.Group
	manifests := make([]bytes.Buffer, 4) // kubectl sends one after the other
	for n := from; n < to; n++ {
		fmt.Fprintf(&manifests[n%len(manifests)], scalePair, n, sink)
	}
	begin := time.Now()
	for n := range manifests {
		name := filepath.Join(i.t.TempDir(), "objects.yaml")
		if err := os.WriteFile(name, manifests[n].Bytes(), 0o600); err != nil {
			i.t.Fatal(err)
		}
		creating.Go(func() error {
			_, err := i.Try("create", "-f", name)
			return err
		})
	}
	if err := creating.Wait(); err != nil {
		i.t.Fatal(err)
	}
	c.created = time.Since(begin)
	told := begin
	i.eventually(15*time.Minute, "objects", func() error {
		sources, triggers := watched.ready("EventSource"), watched.ready("Trigger")
		if sources == to && triggers == to {
			return nil
		}
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			i.t.Logf("after %s %d EventSources and %d Triggers are ready", time.Since(begin).Round(time.Second), sources, triggers)
		}
		return fmt.Errorf("%d EventSources and %d Triggers of %d are ready", sources, triggers, to)
	})
	c.ready = time.Since(begin)
	c.of, c.requests = growth(before, i.writes()), i.requests()-requests
	for _, n := range c.of {
		c.written += n
	}
	return c
}

// watch is what a watch of all EventSources and Triggers tells: it costs the API server less than asking again and again.
type watch struct {
	mu    sync.Mutex
	isNow map[string]map[string]bool // which are ready, by kind and name
	lost  int                        // how often one ceased to be
}

func (i *installation) watch() *watch {
	i.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", i.Kubeconfig())
	if err != nil {
		i.t.Fatal(err)
	}
	client, err := clientset.NewForConfig(config)
	if err != nil {
		i.t.Fatal(err)
	}
	w := &watch{isNow: map[string]map[string]bool{"EventSource": {}, "Trigger": {}}}
	factory := informers.NewSharedInformerFactory(client, 0)
	events := factory.Events().V1alpha1()
	for kind, informer := range map[string]cache.SharedIndexInformer{"EventSource": events.EventSources().Informer(), "Trigger": events.Triggers().Informer()} {
		changed := func(o any) { w.saw(kind, o.(duckv1.KRShaped)) }
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: changed, UpdateFunc: func(_, o any) { changed(o) }})
		if err != nil {
			i.t.Fatal(err)
		}
	}
	factory.Start(i.t.Context().Done())
	return w
}

func (w *watch) saw(kind string, o duckv1.KRShaped) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := o.GetStatus().GetCondition(apis.ConditionReady)
	if name := o.GetName(); c.IsTrue() != w.isNow[kind][name] {
		if !c.IsTrue() {
			w.lost++
		}
		w.isNow[kind][name] = c.IsTrue()
	}
}

func (w *watch) ready(kind string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ready := range w.isNow[kind] {
		if ready {
			n++
		}
	}
	return n
}

// lapses is how often something ceased to be ready.
func (w *watch) lapses() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// logSteps says where the time went: how long after the step before each was done for the Triggers from t-{from} to t-{to}.
func (i *installation) logSteps(from, to int) {
	i.t.Helper()
	const name, label = `{.metadata.name}`, `{.metadata.labels.events\.openfunction\.io/trigger}`
	const created, ready = `{.metadata.creationTimestamp}`, `{.status.conditions[?(@.type=="Ready")].lastTransitionTime}`
	var before map[string]time.Time
	for _, step := range []struct{ what, kind, name, time string }{
		{"Trigger created", "triggers", name, created},
		{"Deployment created", "deployments", label, created},
		{"ReplicaSet created", "replicasets", label, created},
		{"Pod created", "pods", label, created},
		{"process started", "pods", label, `{.status.containerStatuses[0].state.running.startedAt}`},
		{"Pod ready", "pods", label, ready},
		{"Trigger ready", "triggers", name, ready},
	} {
		times := map[string]time.Time{}
		for line := range strings.Lines(i.Kubectl("-n", "scale", "get", step.kind, "-o", `jsonpath={range .items[*]}`+step.name+" "+step.time+`{"\n"}{end}`)) {
			name, at, _ := strings.Cut(strings.TrimSpace(line), " ")
			parsed, err := time.Parse(time.RFC3339, at)
			if err != nil {
				i.t.Logf("%s: %q: %v", step.what, line, err)
				return
			}
			times[name] = parsed
		}
		var total, longest time.Duration
		for n := from; n < to && before != nil; n++ {
			name := fmt.Sprintf("t-%d", n)
			took := times[name].Sub(before[name])
			total, longest = total+took, max(longest, took)
		}
		if before != nil {
			i.t.Logf("%20s %5.1fs later on average, %3.0fs at most", step.what, total.Seconds()/float64(to-from), longest.Seconds())
		}
		before = times
	}
}

var request = regexp.MustCompile(`(?m)^apiserver_request_total\{.*group="([^"]*)".*resource="(\w*)".*,subresource="(\w*)",verb="(\w+)".*\} (\S+)$`)

// writes counts the requests that wrote what nobody but the controller writes, by verb, kind and subresource.
func (i *installation) writes() map[string]int {
	i.t.Helper()
	kinds := []string{
		"eventbuses/status", "clustereventbuses/status", "eventsources/status", "triggers/status", "deployments/", "secrets/",
		"serviceaccounts/", "roles/", "rolebindings/", "statefulsets/", "services/", "poddisruptionbudgets/", "components/", "scaledobjects/",
	}
	count := map[string]int{}
	for _, m := range request.FindAllStringSubmatch(i.Kubectl("get", "--raw", "/metrics"), -1) {
		if slices.Contains(kinds, m[2]+"/"+m[3]) && slices.Contains([]string{"POST", "PUT", "PATCH", "APPLY", "DELETE"}, m[4]) {
			count[strings.TrimSuffix(m[4]+" "+m[2]+"/"+m[3], "/")] += number(i.t, m[5])
		}
	}
	if len(count) == 0 {
		i.t.Fatal("the API server counts no writes")
	}
	return count
}

// requests counts all of them, but leases.
func (i *installation) requests() int {
	i.t.Helper()
	n := 0
	for _, m := range request.FindAllStringSubmatch(i.Kubectl("get", "--raw", "/metrics"), -1) {
		if m[2] != "leases" {
			n += number(i.t, m[5])
		}
	}
	return n
}

func number(t *testing.T, s string) int {
	t.Helper()
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(f)
}

func growth(before, after map[string]int) map[string]int {
	diff := map[string]int{}
	for of, n := range after {
		if n != before[of] {
			diff[of] = n - before[of]
		}
	}
	return diff
}

// sizes are those of the environment, or what a machine with 2 cores and 12 GiB carries in some minutes.
func sizes(t *testing.T) []int {
	t.Helper()
	var all []int
	for s := range strings.SplitSeq(cmp.Or(os.Getenv(scaleSizes), "100,500"), ",") {
		all = append(all, number(t, s))
	}
	return all
}

// memory is what each process of the program has in memory, in MiB, largest first: all (VmRSS), or what it shares with no other (RssAnon).
func memory(t *testing.T, program, which string) []float64 {
	t.Helper()
	line := regexp.MustCompile(`(?m)^` + which + `:\s+(\d+) kB$`)
	var all []float64
	for _, dir := range processes(t, program) {
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue // it has ended
		}
		if m := line.FindSubmatch(status); m != nil {
			all = append(all, float64(number(t, string(m[1])))/1024)
		}
	}
	if len(all) == 0 {
		t.Fatalf("no process of %s runs", program)
	}
	slices.SortFunc(all, func(a, b float64) int { return cmp.Compare(b, a) })
	return all
}

// processorTime is that of all processes of the program.
func processorTime(t *testing.T, program string) (total time.Duration) {
	t.Helper()
	for _, dir := range processes(t, program) {
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // it has ended
		}
		_, after, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(after)
		total += time.Duration(number(t, fields[11])+number(t, fields[12])) * 10 * time.Millisecond // ticks, of the user and of the system
	}
	return total
}

// processes returns the folders of the program's processes in /proc.
func processes(t *testing.T, program string) (dirs []string) {
	t.Helper()
	file, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, exe := range exes {
		// A container has another path for the same file.
		if of, err := os.Stat(exe); err == nil && os.SameFile(of, file) {
			dirs = append(dirs, filepath.Dir(exe))
		}
	}
	return dirs
}

func sum(all []float64) float64 {
	total := 0.0
	for _, n := range all {
		total += n
	}
	return total
}
