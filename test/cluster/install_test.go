//go:build e2e

package cluster

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openfunction/events/test/servers"
)

// forwardTo, in a pod's environment, makes this program pass connections on to the address.
const forwardTo = "CLUSTER_TEST_FORWARD_TO"

// TestMain is the program of forwarding pods when it is started as one.
func TestMain(m *testing.M) {
	if to := os.Getenv(forwardTo); to != "" {
		fmt.Println(forward(":"+os.Getenv("PORT"), to))
		return
	}
	code := m.Run()
	if code == 0 && allRan() && !onlyNeeded() {
		code = 1
	}
	os.Exit(code)
}

func forward(listen, to string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	for {
		in, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer out.Close()
			go func() { _, _ = io.Copy(in, out); in.Close() }()
			_, _ = io.Copy(out, in)
		}()
	}
}

// installation is a cluster with the release in it.
type installation struct {
	*servers.KubernetesCluster
	t *testing.T
	// release is the file that was applied.
	release string
}

// install starts a cluster, whose API server has these flags besides, and applies the release, as docs/install.md says.
func install(t *testing.T, flags ...string) *installation {
	t.Helper()
	i := &installation{KubernetesCluster: cluster(t, flags...), t: t}
	images := map[string]string{}
	for _, name := range []string{"controller", "webhook", "gateway", "bus"} {
		images["images.example/events-"+name] = servers.Build(t, ".", "./cmd/"+name, name)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	images["images.example/forward"] = self
	i.Images(images)
	dir := t.TempDir()
	release := exec.Command("../../hack/release.sh", dir)
	release.Env = append(os.Environ(), "IMAGE_REPO=images.example", "VERSION=test", "KO_DOCKER_REPO=")
	if out, err := release.CombinedOutput(); err != nil {
		t.Fatalf("release: %v\n%s", err, out)
	}
	i.release = filepath.Join(dir, "openfunction-events.yaml")
	t.Cleanup(func() { i.explain() })
	i.Kubectl("apply", "-f", i.release)
	i.Kubectl("-n", "openfunction", "wait", "--for=condition=Available", "--timeout=120s",
		"deployment/events-webhook", "deployment/events-controller", "deployment/events-gateway")
	i.eventually(time.Minute, "admission", func() error {
		_, err := i.Try("create", "--dry-run=server", "-f", "../../config/samples/sample-4-clustereventbus.yaml")
		return err
	})
	return i
}

// explain shows what the system said, if the test failed.
func (i *installation) explain() {
	if !i.t.Failed() {
		return
	}
	for _, args := range [][]string{
		{"get", "eb,ceb,es,tg", "-A"}, {"get", "pods,deploy,sts,pvc", "-A"},
		{"-n", "openfunction", "logs", "deployment/events-controller", "--tail=60"}, {"-n", "openfunction", "logs", "deployment/events-gateway", "--tail=30"},
	} {
		out, err := i.Try(args...)
		i.t.Logf("kubectl %s\n%s%v", strings.Join(args, " "), out, err)
	}
}

// forwardService makes name.namespace:port lead to an address of this machine.
func (i *installation) forwardService(namespace, name, port, to string) {
	i.t.Helper()
	i.Apply(fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  selector: {matchLabels: {forward: %[2]s}}
  template:
    metadata: {labels: {forward: %[2]s}}
    spec:
      automountServiceAccountToken: false
      containers:
      - name: forward
        image: images.example/forward
        env: [{name: %[5]s, value: "%[4]s"}, {name: PORT, value: "%[3]s"}]
        readinessProbe: {tcpSocket: {port: %[3]s}}
---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  selector: {forward: %[2]s}
  ports: [{port: %[3]s}]
`, namespace, name, port, to, forwardTo))
}

// brokers are the servers that the samples name, with their names.
func (i *installation) brokers() (*servers.KafkaServer, *servers.NATSStreamingServer) {
	i.t.Helper()
	kafka, nats := servers.Kafka(i.t), servers.NATSStreaming(i.t)
	i.forwardService("kafka", "dapr-kafka", "9092", kafka.Addr())
	i.forwardService("default", "nats", "4222", strings.TrimPrefix(nats.URL(), "nats://"))
	return kafka, nats
}

// knativeServing defines the part of Knative Serving that a sink needs: a kind that is addressable, and who may read it.
const knativeServing = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: services.serving.knative.dev}
spec:
  group: serving.knative.dev
  names: {kind: Service, plural: services, singular: service, shortNames: [ksvc]}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources: {status: {}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: knative-serving-addressable-resolver, labels: {duck.knative.dev/addressable: "true"}}
rules:
- {apiGroups: [serving.knative.dev], resources: [services, services/status], verbs: [get, list, watch]}
`

// knativeService makes a Knative Service that is at url.
func (i *installation) knativeService(namespace, name, url string) {
	i.t.Helper()
	i.eventually(10*time.Second, "Knative Service", func() error {
		_, err := i.TryApply(fmt.Sprintf("{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: %s, namespace: %s}, spec: {}}", name, namespace))
		return err
	})
	i.Kubectl("-n", namespace, "patch", "ksvc", name, "--subresource=status", "--type=merge", "-p", fmt.Sprintf(`{"status": {"address": {"url": %q}}}`, url))
}

// sampleSink is the name that the samples' sinks have.
const sampleSink = "function-sample-serving-qrdx8-ksvc-fwml8"

// ready waits until an object is, and returns how long that took.
func (i *installation) ready(within time.Duration, objects ...string) time.Duration {
	i.t.Helper()
	begin := time.Now()
	i.eventually(within, strings.Join(objects, ", "), func() error {
		out, err := i.Try(append(append([]string{"get"}, objects...), "-o",
			`jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.generation} {.status.observedGeneration} {.status.conditions[?(@.type=="Ready")].status} {.status.message}{"\n"}{end}`)...)
		if len(objects) == 1 && err == nil {
			out, err = i.Try("get", objects[0], "-o",
				`jsonpath={.kind}/{.metadata.name} {.metadata.generation} {.status.observedGeneration} {.status.conditions[?(@.type=="Ready")].status} {.status.message}`)
		}
		if err != nil {
			return err
		}
		if out == "" {
			return fmt.Errorf("kubectl get %v shows nothing", objects)
		}
		for line := range strings.Lines(out) {
			fields := strings.Fields(line)
			if len(fields) < 4 || fields[1] != fields[2] || fields[3] != "True" {
				return fmt.Errorf("not ready: %s", line)
			}
		}
		return nil
	})
	return time.Since(begin)
}

func (i *installation) eventually(within time.Duration, what string, check func() error) {
	i.t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(100 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			i.t.Fatalf("%s, after %s: %v", what, within, err)
		}
	}
}

// sink takes events and counts them.
type sink struct {
	*httptest.Server
	mu     sync.Mutex
	events []received
}

type received struct{ id, typ, body string }

func newSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, received{r.Header.Get("Ce-Id"), r.Header.Get("Ce-Type"), string(body)})
}

func (s *sink) received() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.events...)
}

// missing returns how many of the bodies have not arrived.
func (s *sink) missing(bodies ...string) error {
	has := map[string]bool{}
	for _, e := range s.received() {
		has[e.body] = true
	}
	missing := 0
	for _, b := range bodies {
		if !has[b] {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d events are missing", missing, len(bodies))
	}
	return nil
}
