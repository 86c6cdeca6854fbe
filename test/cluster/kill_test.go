//go:build e2e

package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openfunction/events/test/servers"
)

// killed are the objects that events go through meanwhile.
const killed = `
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default}
spec: {jetStream: {url: "nats://js.default:4222"}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: es}
spec: {http: {posted: {}}}
---` + killedTrigger

const killedTrigger = `
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: %s}
spec: {inputs: {posted: {eventSource: es, event: posted}}, subscribers: [{condition: posted, sink: {uri: "%s"}}]}
`

// part is a kind of pod.
type part struct{ namespace, selector string }

var (
	controllers = part{"openfunction", "app.kubernetes.io/component=controller"}
	webhooks    = part{"openfunction", "app.kubernetes.io/component=webhook"}
	gateways    = part{"openfunction", "app.kubernetes.io/component=gateway"}
	triggers    = part{"default", "events.openfunction.io/trigger=t"}
)

// TestE2EKill kills one part after the other while events are posted all the time. Every event that was taken has to be at the sink in
// the end. What is posted to answers with 202 all the time, except where the part is one that it needs and there is one of.
func TestE2EKill(t *testing.T) {
	servers.NeedsOwnKubernetes(t, "kills processes of pods and of the API server")
	i := install(t)
	js := servers.JetStream(t)
	i.forwardService("default", "js", "4222", strings.TrimPrefix(js.URL(), "nats://"))
	s := newSink(t)
	i.Apply(fmt.Sprintf(killed, "t", s.URL))
	i.ready(time.Minute, "eb/default", "es/es", "tg/t")
	l := i.load("default/es/posted")

	for _, tt := range []struct {
		name   string
		kill   func(i *installation)
		breaks bool // events may be refused
	}{
		{"a rolling restart of the gateway", (*installation).rolls, false},
		{"the gateway is killed", func(i *installation) { i.killsAndWaits(gateways) }, true},
		{"the Trigger's pod is killed", func(i *installation) { i.killsAndWaits(triggers) }, false},
		{"the webhook is killed", (*installation).killsWebhook, false},
		{"the broker is away until all say so", func(i *installation) { i.losesBroker(js) }, true},
		{"the API server is away for five seconds", func(i *installation) { i.losesAPIServer(s) }, false},
		{"the leader of two controllers is killed", (*installation).losesLeader, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := i.in(t)
			l.begin()
			tt.kill(i)
			i.passes(l, 400, s)
			took := i.ready(30*time.Second, "eb/default", "es/es", "tg/t")
			taken, refusals, pause := l.end()
			t.Logf("%d events taken, %d times refused, none taken for %s at most; ready %s later", taken, len(refusals),
				pause.Round(time.Millisecond), took.Round(time.Millisecond))
			if len(refusals) > 0 {
				t.Logf("refused: %s", summary(refusals))
			}
			if len(refusals) > 0 && !tt.breaks {
				t.Error("events were refused")
			}
		})
	}

	l.stop()
	i.eventually(time.Minute, "every event at the sink", func() error { return s.missing(l.taken...) })
	received, distinct := s.received(), map[string]bool{}
	for _, e := range received {
		distinct[e.id] = true
	}
	t.Logf("%d events taken, none lost, %d delivered more than once", len(l.taken), len(received)-len(distinct))
	if len(distinct) != len(l.taken) {
		t.Errorf("%d events at the sink, of %d that were taken", len(distinct), len(l.taken))
	}
	i.ready(30*time.Second, "eb/default", "es/es", "tg/t", "tg/late")
	for p, want := range map[part]string{controllers: "0 true, 0 true, ", webhooks: "1 true, ", gateways: "1 true, ", triggers: "1 true, "} {
		i.restarted(p, want)
	}
	if got := i.Kubectl("get", "pods", "-A", "-o", "jsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}"); got != "" {
		t.Errorf("pods wait: %s", got)
	}
}

// rolls replaces the gateway's pod as an upgrade does.
func (i *installation) rolls() {
	i.t.Helper()
	old := i.Kubectl("-n", gateways.namespace, "get", "pods", "-l", gateways.selector, "-o", "jsonpath={.items[*].metadata.name}")
	i.Kubectl("-n", gateways.namespace, "rollout", "restart", "deployment/events-gateway")
	i.Kubectl("-n", gateways.namespace, "rollout", "status", "deployment/events-gateway", "--timeout=60s")
	i.gone("-n", gateways.namespace, "pod/"+old)
}

// kills ends the process of the only such pod with SIGKILL.
func (i *installation) kills(namespace string, selector ...string) {
	i.t.Helper()
	id := i.Kubectl(append([]string{"-n", namespace, "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[0].containerID}"}, selector...)...)
	pid, err := strconv.Atoi(strings.TrimPrefix(id, "process://"))
	if err != nil {
		i.t.Fatalf("process %q of %v: %v", id, selector, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		i.t.Fatalf("kill %s: %v", id, err)
	}
}

// killsAndWaits kills the process of a pod that was never restarted, and waits until it was.
func (i *installation) killsAndWaits(p part) {
	i.t.Helper()
	i.restarted(p, "0 true, ")
	i.kills(p.namespace, "-l", p.selector)
	begin := time.Now()
	i.restarted(p, "1 true, ")
	i.t.Logf("ready again after %s", time.Since(begin).Round(10*time.Millisecond))
}

// restarted waits until this is how often the pods were restarted, and whether they are ready.
func (i *installation) restarted(p part, want string) {
	i.t.Helper()
	i.eventually(time.Minute, "pods with "+p.selector, func() error {
		got, err := i.Try("-n", p.namespace, "get", "pods", "-l", p.selector, "-o",
			`jsonpath={range .items[*]}{.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}, {end}`)
		if err == nil && got != want {
			err = fmt.Errorf("restarted and ready: got %q, want %q", got, want)
		}
		return err
	})
}

// killsWebhook wants admission to work again, in both directions.
func (i *installation) killsWebhook() {
	i.t.Helper()
	i.killsAndWaits(webhooks)
	i.eventually(30*time.Second, "admission", func() error {
		_, err := i.Try("annotate", "tg/t", "--overwrite", "admitted=again")
		return err
	})
	_, err := i.Try("patch", "tg/t", "--type=merge", "-p", `{"spec": {"subscribers": [{"condition": "unknown"}]}}`)
	if err := says(err, "unknown"); err != nil {
		i.t.Error(err)
	}
}

// losesBroker wants whoever needs the broker to notice.
func (i *installation) losesBroker(js *servers.JetStreamServer) {
	i.t.Helper()
	begin := time.Now()
	js.Kill()
	i.eventually(30*time.Second, "the objects without a broker", func() error {
		out, err := i.Try("get", "eb/default", "es/es", "tg/t", "-o",
			`jsonpath={range .items[*]}{.kind} {.status.conditions[?(@.type=="Ready")].status} {.status.state}, {end}`)
		if want := "EventBus False Error, EventSource False Error, Trigger False Error, "; err == nil && out != want {
			err = fmt.Errorf("got %q, want %q", out, want)
		}
		return err
	})
	noticed := time.Since(begin)
	time.Sleep(3*time.Second - noticed) // It has to stay away for a while.
	js.Start()
	i.t.Logf("noticed after %s", noticed.Round(10*time.Millisecond))
}

// losesAPIServer wants events to arrive while the API server is away, and no process to end because of it.
func (i *installation) losesAPIServer(s *sink) {
	i.t.Helper()
	i.KillAPIServer()
	before := len(s.received())
	time.Sleep(5 * time.Second) // It has to stay away for a while.
	arrived := len(s.received()) - before
	begin := time.Now()
	i.StartAPIServer()
	i.t.Logf("%d events arrived within 5 s; the API server was back %s later", arrived, time.Since(begin).Round(time.Millisecond))
	if arrived < 500 {
		i.t.Errorf("%d events arrived without an API server, want at least 500", arrived)
	}
	i.restarted(controllers, "0 true, ")
}

// losesLeader kills the controller that leads, and wants the work to go on before long.
func (i *installation) losesLeader() {
	i.t.Helper()
	s := newSink(i.t)
	i.Kubectl("-n", controllers.namespace, "scale", "deployment/events-controller", "--replicas=2")
	begin := time.Now()
	i.restarted(controllers, "0 true, 0 true, ")
	i.t.Logf("the second controller is ready after %s", time.Since(begin).Round(10*time.Millisecond))
	leader := i.leader()
	i.kills(controllers.namespace, "--field-selector=metadata.name="+leader)
	begin = time.Now()
	i.Kubectl("-n", controllers.namespace, "delete", "pod", leader, "--force", "--grace-period=0")
	i.Apply(fmt.Sprintf(killedTrigger, "late", s.URL))
	i.ready(45*time.Second, "tg/late")
	next := i.leader()
	i.t.Logf("a new Trigger is ready %s after %s was killed; %s leads", time.Since(begin).Round(10*time.Millisecond), leader, next)
	if next == leader {
		i.t.Errorf("%s still leads", leader)
	}
	i.eventually(30*time.Second, "events of the new Trigger", func() error {
		if len(s.received()) == 0 {
			return fmt.Errorf("none came")
		}
		return nil
	})
}

// leader is the pod that reconciles Triggers.
func (i *installation) leader() string {
	i.t.Helper()
	leases := i.Kubectl("-n", controllers.namespace, "get", "leases", "-o", `jsonpath={range .items[*]}{.metadata.name} {.spec.holderIdentity}{"\n"}{end}`)
	found := regexp.MustCompile(`(?m)^controller\.\S*trigger\S* (events-controller-[^_\s]+)_`).FindStringSubmatch(leases)
	if found == nil {
		i.t.Fatalf("nobody leads:\n%s", leases)
	}
	return found[1]
}

// load sends events, each of them again and again until it is taken.
type load struct {
	send    func(ctx context.Context, id string) (refusal string) // once
	cancel  context.CancelFunc
	posting sync.WaitGroup

	mu       sync.Mutex
	taken    []string // Their ids, which are also their data.
	refusals []string // Since begin, as all below.
	before   int
	last     time.Time
	pause    time.Duration
}

// load starts a load that goes on until it is stopped or the test ends.
func (i *installation) load(path string) *load { return i.loadOf(200, path) }

// loadOf starts a load of so many events in a second.
func (i *installation) loadOf(rate int, path string) *load {
	return i.loadBy(rate, "", poster(i.ingress()+path, func() string { return "" }))
}

// senders is how many events of a load may be under way at once.
const senders = 20

// loadBy is loadOf for events that come in another way; prefix begins their ids.
func (i *installation) loadBy(rate int, prefix string, send func(ctx context.Context, id string) (refusal string)) *load {
	l := &load{send: send}
	ctx, cancel := context.WithCancel(i.t.Context())
	l.cancel = cancel
	ids := make(chan string)
	l.posting.Go(func() {
		defer close(ids)
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			ids <- prefix + strconv.Itoa(n)
			<-tick.C
		}
	})
	for range senders {
		l.posting.Go(func() {
			for id := range ids {
				l.post(i.t.Context(), id)
			}
		})
	}
	i.t.Cleanup(l.stop)
	return l
}

// stop returns when what was posted is taken.
func (l *load) stop() {
	l.cancel()
	l.posting.Wait()
}

// post returns when the event is taken.
func (l *load) post(ctx context.Context, id string) {
	for ctx.Err() == nil {
		refusal := l.send(ctx, id)
		l.mu.Lock()
		if refusal == "" {
			l.taken = append(l.taken, id)
			l.pause = max(l.pause, time.Since(l.last))
			l.last = time.Now()
			l.mu.Unlock()
			return
		}
		l.refusals = append(l.refusals, refusal)
		l.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
	}
}

// poster posts an event to url once and returns why it was not taken. That the gateway closed a connection which it had promised to keep is a
// reason. authorization is what the header of that name has. The connections are kept.
func poster(url string, authorization func() string) func(ctx context.Context, id string) (refusal string) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: senders}}
	return func(ctx context.Context, id string) (refusal string) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(id))
		if err != nil {
			return err.Error()
		}
		for name, value := range map[string]string{
			"Ce-Specversion": "1.0", "Ce-Id": id, "Ce-Source": "/test", "Ce-Type": "test", "Content-Type": "application/json",
			"Authorization": authorization(),
		} {
			r.Header.Set(name, value)
		}
		answer, err := client.Do(r)
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if answer.StatusCode == http.StatusAccepted {
			return ""
		}
		return fmt.Sprintf("%s (%v): %s", answer.Status, err, text)
	}
}

// begin starts to count anew.
func (l *load) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusals, l.before, l.last, l.pause = nil, len(l.taken), time.Now(), 0
}

// end returns what happened since begin: how many events were taken, why others were not, and how long none was.
func (l *load) end() (taken int, refusals []string, pause time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.taken) - l.before, l.refusals, l.pause
}

// latest is how many events were taken, and the latest of them.
func (l *load) latest() (int, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.taken) == 0 {
		return 0, ""
	}
	return len(l.taken), l.taken[len(l.taken)-1]
}

// passes waits until so many more events are taken, and the latest is at the sink.
func (i *installation) passes(l *load, more int, s *sink) {
	i.t.Helper()
	before, _ := l.latest()
	var latest string
	i.eventually(30*time.Second, "events that are taken", func() error {
		var n int
		if n, latest = l.latest(); n < before+more {
			return fmt.Errorf("%d, want %d", n-before, more)
		}
		return nil
	})
	i.eventually(40*time.Second, "the latest event at the sink", func() error { return s.missing(latest) })
}

// summary is the different reasons, with how often each was given.
func summary(reasons []string) string {
	counts, order := map[string]int{}, []string(nil)
	for _, r := range reasons {
		r = regexp.MustCompile(`127\.\d+\.\d+\.\d+:\d+|publish \d+`).ReplaceAllString(strings.TrimSpace(r), "*")
		if counts[r]++; counts[r] == 1 {
			order = append(order, r)
		}
	}
	for n, r := range order {
		order[n] = fmt.Sprintf("%d x %s", counts[r], r)
	}
	return strings.Join(order, "\n")
}
