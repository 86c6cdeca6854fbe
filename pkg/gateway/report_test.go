package gateway

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
	"github.com/openfunction/events/pkg/plan"
)

// refuse is a Dial to brokers that are away.
func refuse(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("connection refused")
}

// awayBus is a bus of the plan whose broker is away.
func awayBus(name string) plan.Bus {
	return plan.Bus{Name: name, JetStream: &plan.JetStream{URL: "nats://away", Replicas: 1, AckWait: time.Second}}
}

// reports waits until the problems are these, sentences by object, and all hashes are the plan's.
func (r *running) reports(t *testing.T, p *plan.Plan, problems map[string][]string) {
	t.Helper()
	want := plan.Report{Objects: map[string]plan.ObjectReport{}}
	for owner, hash := range p.Hashes() {
		want.Objects[owner] = plan.ObjectReport{Hash: hash, Problems: problems[owner]}
	}
	eventually(t, "report", func() error {
		if diff := cmp.Diff(want, r.Report()); diff != "" {
			return fmt.Errorf("(-want +got):\n%s", diff)
		}
		return nil
	})
}

func TestReport(t *testing.T) {
	r := startWith(t, func(o *Options) { o.Dial = refuse })
	if diff := cmp.Diff(plan.Report{Objects: map[string]plan.ObjectReport{}}, r.Report()); diff != "" {
		t.Errorf("before the first plan (-want +got):\n%s", diff)
	}
	p := onePath(plan.Subscriber{ID: "s", Condition: "a", Sink: display("x"), Topic: "metrics"})
	r.apply(t, p)
	r.reports(t, p, nil)

	const unused, used = "EventBus default/unused", "ClusterEventBus used"
	p.Buses = append(p.Buses, awayBus(unused), awayBus(used))
	p.Subscribers = append(p.Subscribers, p.Subscribers[0])
	p.Subscribers[1].ID, p.Subscribers[1].Trigger, p.Subscribers[1].Bus = "on-used", "default/other", used
	http := p.Sources[0]
	http.EventSource, http.Bus = "stuck", used
	records := plan.Source{
		Namespace: "default", EventSource: "records", Event: "orders", Kind: "kafka", Bus: "bus", Topic: "orders",
		Kafka: &plan.Kafka{KafkaAccess: plan.KafkaAccess{Brokers: []string{"kafka:9092"}}, Topic: "orders", ConsumerGroup: "g"},
	}
	p.Sources = append(p.Sources, http, records)
	if err := r.Apply(p); err != nil {
		t.Fatal(err)
	}
	usedAway := []string{used + " is unavailable: connection refused: start the server, or correct url"}
	r.reports(t, p, map[string][]string{
		unused: {unused + " is unavailable: connection refused: start the server, or correct url"}, used: usedAway,
		"Trigger default/other": usedAway, "EventSource default/stuck": usedAway,
		"EventSource default/records": {"kafka event orders: kafka kafka:9092: kafka: client has run out of available brokers to talk to: connection refused"},
	})
}

func TestAPartThatStartsIsReported(t *testing.T) {
	r := start(t, "")
	p := onePath(plan.Subscriber{ID: "s", Condition: "a", Sink: display("x")}, plan.Subscriber{ID: "u", Condition: "a", Topic: "y"})
	r.apply(t, p)
	r.health.set("Trigger default/t subscriber s", errStarting)
	r.health.set("Trigger default/t subscriber u", errors.New("no such stream"))
	r.reports(t, p, map[string][]string{"Trigger default/t": {"subscriber for sink default/x is starting", "subscriber for topic y: no such stream"}})
}

func TestAnIssuerThatIsAwayIsReported(t *testing.T) {
	r := startWith(t, func(o *Options) { o.Dial = refuse })
	p := onePath()
	s := &p.Sources[0]
	s.HTTP = &plan.HTTP{Auth: &plan.HTTPAuth{OIDC: &plan.OIDC{Issuer: "https://issuer.example", Audience: "events"}}}
	r.apply(t, p)
	r.reports(t, p, nil) // nobody has shown a token
	part := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://%s/%s/%s/%s", r.Addr(), s.Namespace, s.EventSource, s.Event), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+part(`{"alg":"ES256"}`)+"."+part(`{"iss":"https://issuer.example","exp":99999999999}`)+"."+part("signature"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", resp.StatusCode)
	}
	r.reports(t, p, map[string][]string{s.Owner(): {s.Kind + " event " + s.Event + ": auth.oidc.issuer https://issuer.example cannot be asked for its keys: " +
		"get https://issuer.example/.well-known/openid-configuration: connection refused: see that the issuer answers there, or correct auth.oidc.issuer"}})
}

func TestAPlanThatIsNotAppliedIsReportedUntilOneIs(t *testing.T) {
	r := start(t, "")
	good := onePath(plan.Subscriber{ID: "s", Condition: "a", Sink: display("x")})
	r.apply(t, good)
	if err := r.Apply(onePath(plan.Subscriber{ID: "s", Condition: "a &&", Sink: display("x")})); err == nil || r.Report().Error != err.Error() {
		t.Errorf("Apply() = %v, reported %q", err, r.Report().Error)
	}
	if got, want := r.Report().Objects["Trigger default/t"].Hash, good.Hashes()["Trigger default/t"]; got != want {
		t.Errorf("hash %s, want that of the plan that runs, %s", got, want)
	}
	r.SetError(errors.New("no plan"))
	if got := r.Report().Error; got != "no plan" {
		t.Errorf("reported %q", got)
	}
	r.apply(t, good)
	r.reports(t, good, nil)
}

// get returns the status and the body of a path of an address.
func get(t *testing.T, address, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(body))
}

func TestProbes(t *testing.T) {
	well, stuck := onePath(), onePath()
	stuck.Buses = append(stuck.Buses, awayBus("EventBus default/away"))
	for _, tt := range []struct {
		name    string
		serving bool
		plan    *plan.Plan
		status  int
		body    string
	}{
		{"without a plan nothing flows", false, nil, 503, "no plan was applied yet"},
		{"nor is anything served", true, nil, 503, "no plan was applied yet"},
		{"with all buses there events flow", false, well, 200, "ok"},
		{"a bus that is away keeps events from flowing", false, stuck, 503, "EventBus default/away: EventBus default/away is unavailable: connection refused: start the server, or correct url"},
		{"but not requests from being served", true, stuck, 200, "ok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := startWith(t, func(o *Options) { o.Admin, o.Serving, o.Dial = "127.0.0.1:0", tt.serving, refuse })
			if tt.plan != nil {
				if err := r.Apply(tt.plan); err != nil {
					t.Fatal(err)
				}
			}
			for _, address := range []string{r.Addr(), r.AdminAddr()} {
				eventually(t, address, func() error {
					if status, body := get(t, address, "/readyz"); status != tt.status || body != tt.body {
						return fmt.Errorf("/readyz: %d %q, want %d %q", status, body, tt.status, tt.body)
					}
					return nil
				})
				if status, _ := get(t, address, "/healthz"); status != 200 {
					t.Errorf("/healthz: %d", status)
				}
			}
		})
	}
}

func TestTheReportIsServed(t *testing.T) {
	r := startWith(t, func(o *Options) { o.Listen, o.Admin = "", "127.0.0.1:0" })
	p := onePath(plan.Subscriber{ID: "s", Condition: "a", Sink: display("x")})
	r.apply(t, p)
	var got plan.Report
	_, body := get(t, r.AdminAddr(), plan.ReportPath)
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.Report(), got); diff != "" || len(got.Objects) != 3 {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if got := r.Addr(); got != "" {
		t.Errorf("there is an ingress at %s", got)
	}
}

func TestAnAddressThatIsTakenIsAnError(t *testing.T) {
	r := startWith(t, func(o *Options) { o.Admin = "127.0.0.1:0" })
	for want, o := range map[string]Options{"ingress: ": {Listen: r.Addr()}, "admin: ": {Listen: "127.0.0.1:0", Admin: r.AdminAddr()}} {
		if _, err := New(t.Context(), o); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("New() = %v, want %s...", err, want)
		}
	}
}

// TestARollingRestartUnderLoadLosesAndRefusesNothing lets callers choose among gateways as a Service would: by readiness, and late.
func TestARollingRestartUnderLoadLosesAndRefusesNothing(t *testing.T) {
	var stored sync.Map
	b := newBroker(t)
	gateways := make([]*running, 3)
	for i := range gateways {
		gateways[i] = startWith(t, func(o *Options) {
			o.Dial, o.Admin, o.Serving, o.Instance, o.Lag = b.dial, "127.0.0.1:0", true, fmt.Sprint("gateway-", i), 500*time.Millisecond
			o.Observe = func(d Delivered) { stored.Store(d.Event.ID(), true) }
		})
		gateways[i].apply(t, over("bus", "nats://broker", onePath(plan.Subscriber{ID: "s", Condition: "a", Sink: display("x")})))
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	defer client.CloseIdleConnections()
	first := func() *running { // what an endpoint slice says
		for _, g := range gateways {
			if resp, err := client.Get("http://" + g.AdminAddr() + "/readyz"); err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					return g
				}
			}
		}
		return nil
	}
	done := make(chan struct{})
	var callers sync.WaitGroup
	var accepted [8]int
	for n := range accepted {
		callers.Go(func() {
			for g, asked := first(), time.Now(); ; accepted[n]++ {
				select {
				case <-done:
					return
				default:
				}
				if time.Since(asked) > 100*time.Millisecond {
					g, asked = first(), time.Now()
				}
				if g == nil {
					t.Error("no gateway is ready")
					return
				}
				id := fmt.Sprintf("%d-%d", n, accepted[n])
				req, _ := http.NewRequest(http.MethodPost, "http://"+g.Addr()+"/default/es/a", strings.NewReader(`{}`))
				for k, v := range map[string]string{"ce-specversion": "1.0", "ce-id": id, "ce-source": "/test", "ce-type": "test", "content-type": "application/json"} {
					req.Header.Set(k, v)
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Errorf("post %s: %v", id, err)
					return
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusAccepted {
					t.Errorf("post %s: status %d", id, resp.StatusCode)
					return
				}
			}
		})
	}
	for _, g := range gateways[:2] {
		time.Sleep(200 * time.Millisecond) // load
		g.stop()
	}
	close(done)
	callers.Wait()
	eventually(t, "delivered", func() error {
		for n, count := range accepted {
			for i := range count {
				if _, ok := stored.Load(fmt.Sprintf("%d-%d", n, i)); !ok {
					return fmt.Errorf("event %d of %d of caller %d is not delivered", i, count, n)
				}
			}
		}
		return nil
	})
	if accepted[0] == 0 {
		t.Error("nothing was posted")
	}
	t.Logf("accepted %v", accepted)
}

func TestDrainingIsUnreadyAtOnceAndServesOnForTheLag(t *testing.T) {
	r := startWith(t, func(o *Options) { o.Admin, o.Lag = "127.0.0.1:0", 3*time.Second })
	r.apply(t, onePath(plan.Subscriber{ID: "s", Condition: "a", Sink: display("x")}))
	r.cancel()
	for _, address := range []string{r.Addr(), r.AdminAddr()} {
		eventually(t, address, func() error {
			if status, body := get(t, address, "/readyz"); status != 503 || body != "shutting down" {
				return fmt.Errorf("/readyz: %d %q", status, body)
			}
			return nil
		})
	}
	r.mustPost(t, "a", "a1")
	r.wants(t, "default/t -> sink default/x: a1")
}

func TestABusThatLosesEventsIsReportedAndWorks(t *testing.T) {
	s, err := embedded.Start(embedded.Options{Dir: t.TempDir(), SyncInterval: time.Second, Host: "127.0.0.1", Port: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "openfunction-events", Subjects: []string{"openfunction.*.*.*"}, Retention: jetstream.InterestPolicy, MaxAge: time.Hour,
	}); err != nil {
		t.Fatal(err)
	}
	p := onePath(plan.Subscriber{ID: "s", Condition: "a", Sink: display("x")})
	p.Buses[0] = plan.Bus{Name: "bus", JetStream: &plan.JetStream{URL: s.ClientURL(), Replicas: 1, AckWait: 2 * time.Second}}
	r := start(t, "")
	r.apply(t, p) // which waits until all is ready
	for object, got := range r.Report().Objects {
		if strings.Contains(got.Losing, "max_age 1h0m0s") != (object == "bus") || got.Problems != nil {
			t.Errorf("report of %s = %+v, want no problem, and of the bus how it loses events", object, got)
		}
	}
}
