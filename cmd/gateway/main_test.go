package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
	"github.com/openfunction/events/pkg/plan"
)

// asProgram in the environment makes the test binary the program.
const asProgram = "GATEWAY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// apiServer knows one Secret, ns/plan, until it is gone.
type apiServer struct {
	t    *testing.T
	plan *plan.Plan
	gone atomic.Bool
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := plan.Encode(a.plan)
	if err != nil {
		a.t.Error(err)
	}
	meta := metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}
	secret := corev1.Secret{TypeMeta: meta, ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "plan", ResourceVersion: "1"}, Data: map[string][]byte{plan.SecretKey: data}}
	mark := corev1.Secret{TypeMeta: meta, ObjectMeta: metav1.ObjectMeta{ResourceVersion: "1", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}}
	w.Header().Set("Content-Type", "application/json")
	answer := json.NewEncoder(w)
	q := r.URL.Query()
	switch {
	case r.URL.Path == "/api/v1/namespaces/ns/secrets/plan" && a.gone.Load():
		w.WriteHeader(http.StatusNotFound)
		_ = answer.Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Reason: metav1.StatusReasonNotFound, Code: 404})
	case r.URL.Path == "/api/v1/namespaces/ns/secrets/plan":
		_ = answer.Encode(secret)
	case r.URL.Path == "/api/v1/namespaces/ns/secrets" && q.Get("fieldSelector") == "metadata.name=plan" && q.Get("watch") != "":
		if q.Get("sendInitialEvents") == "true" {
			_ = answer.Encode(map[string]any{"type": "ADDED", "object": secret})
			_ = answer.Encode(map[string]any{"type": "BOOKMARK", "object": mark})
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case r.URL.Path == "/api/v1/namespaces/ns/secrets" && q.Get("fieldSelector") == "metadata.name=plan":
		list := corev1.SecretList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.Secret{secret}}
		_ = answer.Encode(list)
	default:
		a.t.Errorf("%s %s: a right that the pod does not have", r.Method, r.URL)
		http.Error(w, "forbidden", http.StatusForbidden)
	}
}

// process is a gateway that runs.
type process struct {
	*exec.Cmd
	ingress, admin string
	log            *bufio.Scanner
}

// kubeconfig returns the name of a file that leads to an API server.
func kubeconfig(t *testing.T, api string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: %q}}], contexts: [{name: c, context: {cluster: c}}], current-context: c}", api)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func start(t *testing.T, api string, environment ...string) *process {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(environment, asProgram+"=1", "KUBECONFIG="+kubeconfig(t, api), "PLAN_SECRET=ns/plan", "POD_NAME=pod", "ADMIN_LISTEN=127.0.0.1:0", "METRICS_LISTEN=127.0.0.1:0", "TMPDIR="+t.TempDir())
	stderr, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	p := &process{Cmd: c, log: bufio.NewScanner(stderr)}
	line := p.wait(t, "gateway runs")
	p.ingress, _ = line["ingress"].(string)
	p.admin, _ = line["admin"].(string)
	return p
}

// wait returns the line of the log with that message.
func (p *process) wait(t *testing.T, message string) (line map[string]any) {
	t.Helper()
	for p.log.Scan() {
		line = nil
		if err := json.Unmarshal(p.log.Bytes(), &line); err != nil {
			t.Fatalf("%q is not JSON: %v", p.log.Text(), err)
		}
		if line["message"] == message && line["severity"] == "INFO" {
			return line
		}
	}
	t.Fatalf("the log ended without %q", message)
	return nil
}

// ready waits until the process says so.
func (p *process) ready(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get("http://" + p.admin + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %s", body)
		}
	}
}

func (p *process) end(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.wait(t, "gateway has drained")
	if err := p.Wait(); err != nil {
		t.Errorf("exit: %v, want code 0", err)
	}
}

func TestTheSharedGatewayServesAndDrains(t *testing.T) {
	called := make(chan struct{}, 1)
	sink := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called <- struct{}{} }))
	defer sink.Close()
	api := httptest.NewServer(&apiServer{t: t, plan: &plan.Plan{Sources: []plan.Source{{
		Namespace: "ns", EventSource: "es", Event: "e", Kind: "http", HTTP: &plan.HTTP{MaxBodyBytes: 1 << 10, Raw: true},
		Sink: &plan.Target{Name: "sink", URL: sink.URL}, Delivery: plan.Delivery{Timeout: time.Second},
	}}}})
	defer api.Close()
	p := start(t, api.URL, "LISTEN=127.0.0.1:0", "READY=serving", "DRAIN_LAG=100ms")
	p.ready(t)
	resp, err := http.Post("http://"+p.ingress+"/ns/es/e", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d, want 200", resp.StatusCode)
	}
	<-called
	p.end(t)
}

func TestAWorkloadRemovesItsSubscriptionsOnlyWhenItsSecretIsGone(t *testing.T) {
	server, err := embedded.Start(embedded.Options{Host: "127.0.0.1", SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	api := &apiServer{t: t, plan: &plan.Plan{
		Buses: []plan.Bus{{Name: "EventBus ns/b", JetStream: &plan.JetStream{URL: server.ClientURL(), Replicas: 1, AckWait: time.Second}}},
		Subscribers: []plan.Subscriber{{
			ID: "s", Trigger: "ns/t", Bus: "EventBus ns/b", Inputs: []plan.Input{{Name: "a", Topic: plan.Topic("ns", "es", "a")}},
			Condition: "a", Window: time.Minute, Match: v1alpha1.MatchOnce, Topic: "out", DeadLetterTopic: plan.DeadLetterTopic("ns", "t"),
		}},
	}}
	kube := httptest.NewServer(api)
	defer kube.Close()
	for _, gone := range []bool{false, true} {
		p := start(t, kube.URL, "LISTEN=", "RETIRE=true")
		p.ready(t)
		if p.ingress != "" {
			t.Errorf("there is an ingress at %s", p.ingress)
		}
		api.gone.Store(gone)
		p.end(t)
		if got := subscriptions(t, server); got != map[bool]int{false: 1, true: 0}[gone] {
			t.Errorf("Secret gone: %v; %d subscriptions are left", gone, got)
		}
	}
}

func subscriptions(t *testing.T, server *embedded.Server) int {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(server))
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
	count := 0
	names := stream.ConsumerNames(t.Context())
	for name := range names.Name() {
		if name != "openfunction~latecomers" { // which is nobody's, and goes by itself
			count++
		}
	}
	if err := names.Err(); err != nil {
		t.Fatal(err)
	}
	return count
}

func TestWhatTheEnvironmentMustSay(t *testing.T) {
	good := env{PlanSecret: "ns/plan", Ready: "flowing", LogLevel: "info"}
	t.Setenv("KUBECONFIG", kubeconfig(t, "http://127.0.0.1:1"))
	for want, change := range map[string]func(*env){
		`secret "plan": want namespace/name`:                                        func(e *env) { e.PlanSecret = "plan" },
		`READY "yes": want flowing or serving`:                                      func(e *env) { e.Ready = "yes" },
		`LOG_LEVEL "10": want debug, info, warn, error, or a verbosity from 1 to 9`: func(e *env) { e.LogLevel = "10" },
	} {
		e := good
		change(&e)
		if err := run(t.Context(), e); err == nil || err.Error() != want {
			t.Errorf("run() = %v, want %s", err, want)
		}
	}
}

func TestParseLevel(t *testing.T) {
	for level, want := range map[string]string{"debug": "debug", "info": "info", "warn": "warn", "error": "error", "1": "info", "3": "info", "4": "debug", "9": "debug"} {
		if got, err := parseLevel(level); err != nil || got.String() != want {
			t.Errorf("parseLevel(%s) = %s, %v, want %s", level, got, err, want)
		}
	}
}
