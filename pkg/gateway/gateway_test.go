package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/event"
	busjetstream "github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
	"github.com/openfunction/events/pkg/plan"
)

const patience = time.Minute

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// running is a gateway that runs until the test ends or stop is called.
type running struct {
	*Gateway
	cancel context.CancelFunc
	stop   func()
	logs   *observer.ObservedLogs

	mu       sync.Mutex
	observed []string
}

func start(t *testing.T, dir string) *running {
	t.Helper()
	return startWith(t, func(o *Options) { o.DataDir = dir })
}

func startWith(t *testing.T, change func(*Options)) *running {
	t.Helper()
	return startLogged(t, zaptest.NewLogger(t), change)
}

func startLogged(t *testing.T, log *zap.Logger, change func(*Options)) *running {
	t.Helper()
	r := &running{}
	core, logs := observer.New(zap.InfoLevel)
	r.logs = logs
	log = log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return zapcore.NewTee(c, core) }))
	ctx, cancel := context.WithCancel(logging.WithLogger(context.Background(), log.Sugar()))
	o := Options{
		Listen: "127.0.0.1:0", Instance: "test", Grace: 5 * time.Second,
		Display: event.HandlerFunc(func(context.Context, *event.Event) error { return nil }),
		Observe: func(d Delivered) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.observed = append(r.observed, fmt.Sprintf("%s%s -> %s: %s", d.Trigger, d.EventSource, d.To, d.Event.ID()))
		},
		Embedded: func(_, dir string, sync time.Duration) (Server, error) {
			return embedded.Start(embedded.Options{Dir: dir, SyncInterval: sync})
		},
	}
	change(&o)
	g, err := New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	r.Gateway, r.cancel = g, cancel
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *running) apply(t *testing.T, p *plan.Plan) {
	t.Helper()
	if err := r.Apply(p); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready", r.Ready)
}

func (r *running) post(event, id string) (int, string) { return r.postTo("es", event, id) }

func (r *running) postTo(eventSource, event, id string) (int, string) {
	req, err := http.NewRequest(http.MethodPost, "http://"+r.Addr()+"/default/"+eventSource+"/"+event, strings.NewReader(`{}`))
	if err != nil {
		return 0, err.Error()
	}
	for k, v := range map[string]string{"ce-specversion": "1.0", "ce-id": id, "ce-source": "/test", "ce-type": "test", "content-type": "application/json"} {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func (r *running) mustPost(t *testing.T, event, id string) {
	t.Helper()
	if code, body := r.post(event, id); code != http.StatusAccepted {
		t.Fatalf("post %s: status %d: %s", id, code, body)
	}
}

func (r *running) wants(t *testing.T, line string) {
	t.Helper()
	eventually(t, line, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, got := range r.observed {
			if got == line {
				return nil
			}
		}
		return fmt.Errorf("got %q", r.observed)
	})
}

func (r *running) count(line string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, got := range r.observed {
		if got == line {
			n++
		}
	}
	return n
}

var quick = plan.Delivery{Retry: 1, Timeout: time.Second, BackoffDelay: 10 * time.Millisecond, RetryAfterMax: time.Second}

// onePath is events over an embedded bus to subscribers on "a".
func onePath(subscribers ...plan.Subscriber) *plan.Plan {
	p := &plan.Plan{Buses: []plan.Bus{{Name: "bus", Embedded: &plan.Embedded{SyncInterval: time.Second}}}}
	for _, e := range []string{"a", "b"} {
		p.Sources = append(p.Sources, plan.Source{
			Namespace: "default", EventSource: "es", Event: e, Kind: "http", Bus: "bus", Topic: plan.Topic("default", "es", e),
			HTTP: &plan.HTTP{MaxBodyBytes: 1 << 20},
		})
	}
	for i, s := range subscribers {
		if s.ID == "" {
			s.ID = fmt.Sprintf("s%d", i)
		}
		s.Trigger, s.Bus, s.Window, s.Match = "default/t", "bus", time.Minute, v1alpha1.MatchOnce
		s.DeadLetterTopic = plan.DeadLetterTopic("default", "t")
		s.Inputs = []plan.Input{{Name: "a", Topic: plan.Topic("default", "es", "a")}, {Name: "b", Topic: plan.Topic("default", "es", "b")}}
		if s.Delivery == (plan.Delivery{}) {
			s.Delivery = quick
		}
		p.Subscribers = append(p.Subscribers, s)
	}
	return p
}

func display(name string) *plan.Target { return &plan.Target{Name: "sink default/" + name} }

func TestEventsGoOverTheBusToSinksAndTopics(t *testing.T) {
	r := start(t, "")
	r.apply(t, onePath(
		plan.Subscriber{Condition: "a", Sink: display("each"), Topic: "metrics"},
		plan.Subscriber{Condition: "a && b", Sink: display("joined")},
	))
	r.mustPost(t, "a", "a1")
	r.wants(t, "default/t -> sink default/each: a1")
	r.wants(t, "default/t -> topic metrics: a1")
	r.mustPost(t, "b", "b1")
	r.wants(t, "default/t -> sink default/joined: b1")
}

func TestWhatASinkRefusesIsDeadLetteredPerTarget(t *testing.T) {
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer sink.Close()
	r := start(t, "")
	r.apply(t, onePath(
		plan.Subscriber{Condition: "a", Sink: &plan.Target{Name: "sink default/fn", URL: sink.URL}, Topic: "metrics"},
		plan.Subscriber{Condition: "a", Sink: &plan.Target{Name: "sink default/fn", URL: sink.URL}, DeadLetter: display("dead")},
	))
	r.mustPost(t, "a", "a1")
	r.wants(t, "default/t -> deadletter topic openfunction.default.trigger.t.deadletter: a1")
	r.wants(t, "default/t -> deadletter sink default/dead: a1")
	r.wants(t, "default/t -> topic metrics: a1")
}

// The dead letter sink refuses for good and is cured later: the event waits for that, and the target that has it does not get it again.
func TestATargetThatTookAnEventDoesNotGetItAgainWhileTheOtherIsStuck(t *testing.T) {
	var letters atomic.Int32
	dead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if letters.Add(1) < 3 {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer dead.Close()
	r := start(t, "")
	r.apply(t, onePath(plan.Subscriber{
		Condition: "a", Sink: display("each"), Topic: "no good topic", DeadLetter: &plan.Target{Name: "sink dead", URL: dead.URL},
	}))
	r.mustPost(t, "a", "a1")
	r.wants(t, "default/t -> deadletter sink dead: a1")
	if got := r.count("default/t -> sink default/each: a1"); got != 1 || letters.Load() != 3 {
		t.Errorf("the sink got the event %d times, and the dead letter sink its letter %d times, want 1 and 3", got, letters.Load())
	}
}

// A bound is for events that wait: what becomes of them must have a place.
func TestABoundedBusHasRoomForDeadLettersAndTopics(t *testing.T) {
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer sink.Close()
	r := start(t, "")
	p := onePath(plan.Subscriber{Condition: "a", Sink: &plan.Target{Name: "sink default/fn", URL: sink.URL}, Topic: "metrics"})
	p.Buses[0].Embedded.MaxBytes = 256 << 10
	r.apply(t, p)
	r.mustPost(t, "a", "a1")
	r.wants(t, "default/t -> deadletter topic openfunction.default.trigger.t.deadletter: a1")
	r.wants(t, "default/t -> topic metrics: a1")
}

func TestThePasswordOfASinkIsNotTold(t *testing.T) {
	var letter *event.Event
	var mu sync.Mutex
	dead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b event.Binary
		for _, name := range []string{"specversion", "id", "source", "type", "knativeerrordest", "knativeerrordata"} {
			_ = b.Set(name, r.Header.Get("ce-"+name))
		}
		mu.Lock()
		defer mu.Unlock()
		letter, _ = b.Event("", nil)
	}))
	defer dead.Close()
	r := start(t, "")
	r.apply(t, onePath(plan.Subscriber{
		Condition: "a", Sink: &plan.Target{Name: "sink x", URL: "http://user:planted-secret@127.0.0.1:1/"},
		DeadLetter: &plan.Target{Name: "sink dead", URL: dead.URL},
	}))
	r.mustPost(t, "a", "a1")
	r.wants(t, "default/t -> deadletter sink dead: a1")
	mu.Lock()
	defer mu.Unlock()
	if text := letter.String(); strings.Contains(text, "planted-secret") {
		t.Errorf("the dead letter tells the password:\n%s", text)
	}
}

func TestReloadDisturbsOnlyWhatChanged(t *testing.T) {
	r := start(t, "")
	keep := plan.Subscriber{ID: "keep", Condition: "a", Sink: display("keep")}
	r.apply(t, onePath(keep, plan.Subscriber{ID: "edit", Condition: "a", Sink: display("edit")}))
	part := r.subscribers["keep"]
	r.apply(t, onePath(keep, plan.Subscriber{ID: "edit", Condition: "b", Sink: display("edit")}))
	if r.subscribers["keep"] != part {
		t.Error("an unchanged subscriber was restarted")
	}
	r.mustPost(t, "b", "b1")
	r.wants(t, "default/t -> sink default/edit: b1")
	r.mustPost(t, "a", "a1")
	r.wants(t, "default/t -> sink default/keep: a1")
	if n := r.count("default/t -> sink default/edit: a1"); n != 0 {
		t.Error("the old condition still fires")
	}
}

func TestTheFirstEventOfANewRouteIsNotMissed(t *testing.T) {
	r := start(t, "")
	r.apply(t, onePath())
	for i := range 50 {
		name := fmt.Sprintf("n%d", i)
		topic := plan.Topic("default", "es", name)
		p := onePath(plan.Subscriber{ID: "s-" + name, Condition: "a", Sink: display(name)})
		p.Subscribers[0].Inputs[0].Topic = topic
		p.Sources[0].Event, p.Sources[0].Topic = name, topic
		if err := r.Apply(p); err != nil {
			t.Fatal(err)
		}
		r.mustPost(t, name, name)
		r.wants(t, "default/t -> sink default/"+name+": "+name)
	}
}

func TestRoutesComeAndGo(t *testing.T) {
	r := start(t, "")
	p := onePath(plan.Subscriber{Condition: "a", Sink: display("each")})
	r.apply(t, p)
	r.mustPost(t, "b", "b1")
	p.Sources = p.Sources[:1]
	r.apply(t, p)
	if code, _ := r.post("b", "b2"); code != http.StatusNotFound {
		t.Errorf("a removed route answers %d, want 404", code)
	}
	r.mustPost(t, "a", "a1")
}

func TestWhoPostsAnEventThatWaitsIsAskedToTryAgain(t *testing.T) {
	r := start(t, "")
	p := onePath(plan.Subscriber{Condition: "a", Sink: display("each")})
	b := p.Sources[1]
	p.Sources, p.WaitingSources = p.Sources[:1], []plan.Source{{Namespace: "default", EventSource: "es", Event: "b", Kind: "http", Why: "the bus cannot be used"}}
	r.apply(t, p)
	r.mustPost(t, "a", "a1")
	const want = "EventSource default/es http event b is unavailable: the bus cannot be used: try again later\n"
	if code, body := r.post("b", "b1"); code != http.StatusServiceUnavailable || body != want {
		t.Errorf("it answers %d %s, want 503 %s", code, body, want)
	}
	p.Sources, p.WaitingSources = append(p.Sources, b), nil
	r.apply(t, p)
	r.mustPost(t, "b", "b2")
}

func TestAPlanWithAMistakeChangesNothing(t *testing.T) {
	r := start(t, "")
	r.apply(t, onePath(plan.Subscriber{Condition: "a", Sink: display("each")}))
	for name, bad := range map[string]*plan.Plan{
		"condition": onePath(plan.Subscriber{Condition: "a &&", Sink: display("each")}),
		"sink":      onePath(plan.Subscriber{Condition: "a", Sink: &plan.Target{Name: "sink x", URL: "ftp://x"}}),
		"no target": onePath(plan.Subscriber{Condition: "a"}),
		"no bus":    {Subscribers: onePath(plan.Subscriber{Condition: "a", Sink: display("x")}).Subscribers},
	} {
		if err := r.Apply(bad); err == nil {
			t.Errorf("%s: Apply() = nil, want an error", name)
		}
	}
	r.mustPost(t, "a", "a1")
	r.wants(t, "default/t -> sink default/each: a1")
}

// What one owner has wrong must not keep the others' changes from being served, nor anybody after a restart.
func TestTheReportSaysWhichTargetTakesNothing(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			http.Error(w, "what the event says", http.StatusInternalServerError)
		}
	}))
	defer sink.Close()
	r := start(t, "")
	r.apply(t, onePath(plan.Subscriber{Condition: "a", Sink: &plan.Target{Name: "sink default/x", URL: sink.URL}, Topic: "t"}))
	failing := func(want ...string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%q is failing", want), func() error {
			if got := r.Report().Objects["Trigger default/t"]; !slices.Equal(got.Failing, want) || got.Problems != nil {
				return fmt.Errorf("report %+v", got)
			}
			return nil
		})
	}
	failing()
	r.mustPost(t, "a", "a1")
	failing("events are not taken by sink default/x: post " + sink.URL + ": status 500")
	broken.Store(false)
	r.mustPost(t, "a", "a2")
	failing()
}

// TestSecretsThatASinkRepeats are hidden where they are of the same owner. Where many share a gateway, what is hidden would tell one of them
// which of its guesses is a secret of another.
func TestSecretsThatASinkRepeats(t *testing.T) {
	const planted = "planted-password"
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, planted, http.StatusInternalServerError) }))
	defer echo.Close()
	e, err := event.ParseStructured([]byte(`{"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, shared := range []bool{false, true} {
		r := startWith(t, func(o *Options) { o.Lenient, o.Serving = true, shared })
		r.apply(t, onePath(plan.Subscriber{Condition: "a", Sink: &plan.Target{Name: "sink x", URL: "http://me:" + planted + "@sink.example.com"}}))
		sink, err := r.client.Sink(plan.Target{URL: echo.URL})
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.Handle(t.Context(), e); err == nil || strings.Contains(err.Error(), planted) != shared {
			t.Errorf("shared %t: Handle() = %v", shared, err)
		}
	}
}

func TestALenientGatewayRunsWhatHasNoMistake(t *testing.T) {
	good := func() *plan.Plan { return onePath(plan.Subscriber{Condition: "a", Sink: display("each")}) }
	for name, tt := range map[string]struct {
		spoil func(p *plan.Plan)
		owner string
	}{
		"a subscriber": {func(p *plan.Plan) { p.Subscribers[0].Condition = "a &&" }, "Trigger default/t"},
		"an address":   {func(p *plan.Plan) { p.Subscribers[0].Sink = &plan.Target{Name: "sink x", URL: "ftp://x"} }, "Trigger default/t"},
		"a bus":        {func(p *plan.Plan) { p.Buses[0].Embedded = nil }, "bus"},
		"a route":      {func(p *plan.Plan) { p.Sources[0].HTTP = &plan.HTTP{Raw: true, ID: "constant"} }, "EventSource default/es"},
		"a source": {func(p *plan.Plan) {
			p.Sources[1].Kind, p.Sources[1].HTTP, p.Sources[1].Cron = "cron", nil, &plan.Cron{Schedule: "never"}
		}, "EventSource default/es"},
	} {
		t.Run(name, func(t *testing.T) {
			lenient := func(o *Options) { o.Lenient, o.Serving = true, true }
			bad := good()
			tt.spoil(bad)
			bad.Sources = append(bad.Sources, plan.Source{
				Namespace: "default", EventSource: "other", Event: "c", Kind: "http", Sink: display("other"), HTTP: &plan.HTTP{MaxBodyBytes: 1 << 20},
			})
			check := func(r *running) {
				t.Helper()
				eventually(t, "one problem of "+tt.owner, func() error { // first its bus is starting, too
					if got := r.Report().Objects[tt.owner].Problems; len(got) != 1 {
						return fmt.Errorf("problems = %q", got)
					}
					return nil
				})
				if got := r.Report(); len(got.Objects["EventSource default/other"].Problems) != 0 || got.Error != "" {
					t.Errorf("Report() = %+v, want that the others have no problem", got)
				}
				if code, body := r.postTo("other", "c", "c1"); code != http.StatusAccepted {
					t.Errorf("post to somebody else's route: %d %s", code, body)
				}
			}
			running := startWith(t, lenient)
			running.apply(t, good())
			running.apply(t, bad)
			check(running)
			running.mustPost(t, "a", "a1") // goes on as it was
			running.wants(t, "default/t -> sink default/each: a1")
			running.apply(t, good())
			if got := running.Report().Objects[tt.owner].Problems; len(got) != 0 {
				t.Errorf("problems after the cure = %q", got)
			}

			fresh := startWith(t, lenient)
			if err := fresh.Apply(bad); err != nil {
				t.Fatal(err)
			}
			check(fresh)
		})
	}
}

func TestAnEmbeddedBusNeedsAServer(t *testing.T) {
	r := startWith(t, func(o *Options) { o.Embedded = nil })
	const want = "bus: an embedded bus does not run in this program"
	if err := r.Apply(onePath()); err == nil || err.Error() != want {
		t.Errorf("Apply() = %v, want %s", err, want)
	}
}

func TestAnEmbeddedBusThatChangesIsRefusedAndGoesOn(t *testing.T) {
	r := start(t, "")
	r.apply(t, onePath(plan.Subscriber{Condition: "a", Sink: display("each")}))
	p := onePath(plan.Subscriber{Condition: "a", Sink: display("each")})
	p.Buses[0].Embedded.SyncInterval = time.Minute
	if err := r.Apply(p); err == nil || !strings.Contains(err.Error(), "restart") {
		t.Errorf("Apply() = %v, want an error that says to restart", err)
	}
	r.mustPost(t, "a", "a1")
	r.wants(t, "default/t -> sink default/each: a1")
}

// subscriptions counts the durable subscriptions of an embedded bus.
func (r *running) subscriptions(t *testing.T, bus string) int {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(r.buses[bus].server))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "openfunction-events")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Consumers
}

func TestASubscriberThatMovesToAnotherBusLeavesWhatWaitsOnTheOld(t *testing.T) {
	r := start(t, "")
	p := onePath(plan.Subscriber{ID: "moves", Condition: "a", Sink: display("each")}, plan.Subscriber{ID: "stays", Condition: "a", Sink: display("each")})
	p.Buses = append(p.Buses, plan.Bus{Name: "other", Embedded: &plan.Embedded{SyncInterval: time.Second}})
	r.apply(t, p)
	if got := r.subscriptions(t, "bus"); got != 2 {
		t.Fatalf("%d subscriptions before, want 2", got)
	}
	p.Subscribers[0].Bus = "other"
	r.apply(t, p)
	if got := r.subscriptions(t, "bus"); got != 2 {
		t.Errorf("%d subscriptions on the old bus, want 2", got)
	}
}

// What an embedded bus in memory has ends with it: nothing stays that could be led to again.
func TestABusInMemoryThatIsLeftKeepsNothing(t *testing.T) {
	for dir, want := range map[string]int{"": 0, t.TempDir(): 1} {
		r := start(t, dir)
		p := onePath(plan.Subscriber{ID: "s", Condition: "a", Sink: display("each")})
		r.apply(t, p)
		if got := r.subscriptions(t, "bus"); got != 1 {
			t.Fatalf("%d subscriptions before, want 1", got)
		}
		p.Buses[0] = plan.Bus{Name: "bus", JetStream: &plan.JetStream{URL: "nats://127.0.0.1:1"}}
		if err := r.Apply(p); err != nil { // it is not ready: nobody is there
			t.Fatal(err)
		}
		if got := r.logs.FilterMessageSnippet("stays on the broker that is left").Len(); got != want {
			t.Errorf("data directory %q: %d subscriptions are said to stay, want %d", dir, got, want)
		}
		r.stop()
	}
}

func TestARestartRemovesSubscriptionsThatThePlanLost(t *testing.T) {
	dead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer dead.Close()
	slow := quick
	slow.Retry, slow.BackoffDelay = 100, time.Second
	for _, kept := range [][]plan.Subscriber{nil, {{ID: "kept", Condition: "a", Sink: display("x")}}} {
		dir := t.TempDir()
		first := start(t, dir)
		first.apply(t, onePath(append(kept, plan.Subscriber{ID: "lost", Condition: "a", Sink: &plan.Target{Name: "sink y", URL: dead.URL}, Delivery: slow})...))
		for i := range 50 {
			first.mustPost(t, "a", fmt.Sprint("a", i))
		}
		first.stop()
		second := start(t, dir)
		second.apply(t, onePath(append(kept, plan.Subscriber{ID: "renamed", Condition: "a", Sink: display("z")})...))
		if got, want := second.subscriptions(t, "bus"), len(kept)+1; got != want {
			t.Errorf("%d subscriptions after the restart, want %d", got, want)
		}
		eventually(t, "nothing waits", func() error {
			events, _, err := second.buses["bus"].Bus.(*busjetstream.Bus).Waiting(t.Context())
			if err == nil && events > 0 {
				err = fmt.Errorf("%d events", events)
			}
			return err
		})
		told := second.logs.FilterMessageSnippet("no subscriber has any more").All()
		if len(told) != 1 || told[0].Level != zapcore.WarnLevel || told[0].ContextMap()["subscription"] != "lost" || told[0].ContextMap()["events"] != uint64(50) {
			t.Errorf("told %v, want a warning of lost with 50 events", told)
		}
		second.stop()
	}
}

func TestRemovedSubscribersLeaveNothingOnTheBus(t *testing.T) {
	r := start(t, "")
	dead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer dead.Close()
	slow := quick
	slow.Retry, slow.BackoffDelay = 100, time.Second
	stuck := plan.Subscriber{ID: "stuck", Condition: "a", Sink: &plan.Target{Name: "sink x", URL: dead.URL}, Delivery: slow}
	r.apply(t, onePath(stuck))
	r.mustPost(t, "a", "a1")
	r.apply(t, onePath())
	r.apply(t, onePath(plan.Subscriber{ID: "stuck", Condition: "a", Sink: display("new")}))
	r.mustPost(t, "a", "a2")
	r.wants(t, "default/t -> sink default/new: a2")
	if n := r.count("default/t -> sink default/new: a1"); n != 0 {
		t.Error("a removed subscription was kept")
	}
}

func TestEventsAndJoinsSurviveARestartOnDisk(t *testing.T) {
	dir := t.TempDir()
	p := onePath(plan.Subscriber{Condition: "a && b", Sink: display("joined")})
	first := start(t, dir)
	first.apply(t, p)
	first.mustPost(t, "a", "a1")
	first.stop()
	second := start(t, dir)
	second.apply(t, p)
	second.mustPost(t, "b", "b1")
	second.wants(t, "default/t -> sink default/joined: b1")
}

func TestADirectSinkAnswersTheCaller(t *testing.T) {
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "hello %s", r.Header.Get("ce-id"))
	}))
	defer sink.Close()
	r := start(t, "")
	r.apply(t, &plan.Plan{Sources: []plan.Source{{
		Namespace: "default", EventSource: "es", Event: "call", Kind: "http", HTTP: &plan.HTTP{MaxBodyBytes: 1 << 20},
		Sink: &plan.Target{Name: "sink default/fn", URL: sink.URL}, Delivery: quick,
	}}})
	if code, body := r.post("call", "c1"); code != http.StatusTeapot || body != "hello c1" {
		t.Errorf("the caller got %d %q, want the sink's answer", code, body)
	}
}

func TestApplyAfterTheEndIsRefused(t *testing.T) {
	r := start(t, "")
	r.stop()
	if err := r.Apply(&plan.Plan{}); err != ErrClosed {
		t.Errorf("Apply() = %v, want ErrClosed", err)
	}
}

func TestSourcesStopWhileRequestsAreStillInside(t *testing.T) {
	r := start(t, "")
	entered, stopped := make(chan struct{}), make(chan struct{})
	sink := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-stopped
	}))
	defer sink.Close()
	r.apply(t, &plan.Plan{Sources: []plan.Source{{
		Namespace: "default", EventSource: "es", Event: "a", Kind: "http", HTTP: &plan.HTTP{MaxBodyBytes: 1 << 20},
		Sink: &plan.Target{Name: "sink default/fn", URL: sink.URL}, Delivery: quick,
	}}})
	r.applying.Lock()
	source := map[string]*part{"x": {name: "x", bus: noBus, run: func(ctx context.Context, _ func(error)) error {
		<-ctx.Done()
		close(stopped)
		return nil
	}}}
	r.begin(source, nil)
	r.sources["x"] = source["x"]
	r.applying.Unlock()
	answered := make(chan int, 1)
	go func() {
		status, _ := r.post("a", "1")
		answered <- status
	}()
	<-entered
	r.stop()
	if status := <-answered; status != http.StatusOK {
		t.Errorf("the request that was inside got %d, want 200", status)
	}
}
