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
		l, err := net.Listen("tcp", ":"+os.Getenv("PORT"))
		if err == nil {
			err = forward(l, to)
		}
		fmt.Println(err)
		return
	}
	code := m.Run()
	if code == 0 && allRan() && !onlyNeeded() {
		code = 1
	}
	os.Exit(code)
}

// forward passes connections on until the listener is closed.
func forward(l net.Listener, to string) error {
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
	// namespaces are those that the test made.
	namespaces map[string]bool
}

// install applies the release to a cluster, as docs/install.md says; if it starts one, the API server has these flags besides. If the cluster stays,
// it is uninstalled when the test ends.
func install(t *testing.T, flags ...string) *installation {
	t.Helper()
	i := &installation{KubernetesCluster: cluster(t, flags...), t: t, namespaces: map[string]bool{}}
	dir := t.TempDir()
	release := exec.Command("../../hack/release.sh", dir)
	if i.Ours() {
		i.nameImages()
		release.Env = append(os.Environ(), "IMAGE_REPO=images.example", "VERSION=test", "KO_DOCKER_REPO=")
	}
	if out, err := release.CombinedOutput(); err != nil {
		t.Fatalf("release: %v\n%s", err, out)
	}
	i.release = filepath.Join(dir, "openfunction-events.yaml")
	if i.Stays() {
		i.isFree()
		t.Cleanup(i.uninstall)
	}
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

// nameImages says which programs the images of the release are, and that of pods that forward.
func (i *installation) nameImages() {
	i.t.Helper()
	images := map[string]string{}
	for _, name := range []string{"controller", "webhook", "gateway", "bus"} {
		images["images.example/events-"+name] = servers.Build(i.t, ".", "./cmd/"+name, name)
	}
	self, err := os.Executable()
	if err != nil {
		i.t.Fatal(err)
	}
	images["images.example/forward"] = self
	i.Images(images)
}

// isFree wants the cluster not to have what the tests make, and would delete: it may be somebody's.
func (i *installation) isFree() {
	i.t.Helper()
	taken := i.Kubectl("get", "--ignore-not-found", "-o", "name", "namespace/openfunction", "crd/eventbuses.events.openfunction.io",
		"crd/services.serving.knative.dev", "crd/"+daprKind, "crd/"+kedaKind)
	if taken != "" {
		i.t.Fatalf("the cluster has what this test would make and delete again; use another one, or delete it if nobody needs it:\n%s", taken)
	}
}

// uninstall runs the commands of the documentation.
func (i *installation) uninstall() {
	for _, command := range uninstalling(i.t) {
		i.types(command)
	}
}

// namespace makes a namespace of the test's own, if it has not yet.
func (i *installation) namespace(name string) {
	i.t.Helper()
	if !i.namespaces[name] {
		i.Kubectl("create", "namespace", name)
		i.namespaces[name] = true
		i.DeleteAfter("namespace", name)
	}
}

// explain shows what the system said, if the test failed.
func (i *installation) explain() {
	if !i.t.Failed() {
		return
	}
	for _, args := range [][]string{
		{"get", "eb,ceb,es,tg", "-A"}, {"get", "pods,deploy,sts,pvc", "-A"},
		{"-n", "openfunction", "logs", "deployment/events-controller", "--tail=60"}, {"-n", "openfunction", "logs", "deployment/events-gateway", "--tail=30"},
		{"logs", "-l", "app.kubernetes.io/managed-by=events-controller", "--prefix", "--tail=30", "--max-log-requests=20"},
	} {
		out, err := i.Try(args...)
		i.t.Logf("kubectl %s\n%s%v", strings.Join(args, " "), out, err)
	}
}

// forwardService makes name.namespace:port lead to an address of this machine.
func (i *installation) forwardService(namespace, name, port, to string) {
	i.t.Helper()
	if namespace == "default" {
		i.DeleteAfter("-n", namespace, "service,deployment,endpointslice", "-l", "forward="+name)
	} else {
		i.namespace(namespace)
	}
	manifest, arguments := forwardingPod, []any{namespace, name, port, to, forwardTo}
	if !i.Ours() {
		host, port := i.relay(to)
		manifest, arguments = forwardingSlice, append(arguments[:3], host, port)
	}
	// Not applied, because it may be somebody else's.
	if _, err := i.TryInput(fmt.Sprintf(manifest, arguments...), "create", "-f", "-"); err != nil {
		i.t.Fatal(err)
	}
}

// relay passes connections to an address that pods reach on to one of this machine's loopback, until the test ends.
func (i *installation) relay(to string) (host, port string) {
	i.t.Helper()
	l := listen(i.t)
	i.t.Cleanup(func() { _ = l.Close() })
	go func() { _ = forward(l, to) }()
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		i.t.Fatal(err)
	}
	return host, port
}

// listen listens where pods can connect to.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(servers.ClusterHost(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const (
	// forwardingPod is for our own cluster, whose pods reach everything on this machine.
	forwardingPod = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s, labels: {forward: %[2]s}}
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
metadata: {name: %[2]s, namespace: %[1]s, labels: {forward: %[2]s}}
spec:
  selector: {forward: %[2]s}
  ports: [{port: %[3]s}]
`
	// forwardingSlice leads out of a cluster, and needs no image.
	forwardingSlice = `
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s, labels: {forward: %[2]s}}
spec:
  ports: [{port: %[3]s}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[2]s, namespace: %[1]s, labels: {forward: %[2]s, kubernetes.io/service-name: %[2]s}}
addressType: IPv4
ports: [{port: %[5]s}]
endpoints: [{addresses: ["%[4]s"]}]
`
)

// brokers are the servers that the samples name, with their names.
func (i *installation) brokers() (*servers.KafkaServer, *servers.NATSStreamingServer) {
	i.t.Helper()
	kafka, nats := servers.KafkaAt(i.t, servers.ClusterHost()), servers.NATSStreaming(i.t)
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

// defineKnative does so.
func (i *installation) defineKnative() {
	i.t.Helper()
	i.Apply(knativeServing)
	i.DeleteAfter("crd/services.serving.knative.dev", "clusterrole/knative-serving-addressable-resolver")
}

// knativeService makes a Knative Service that is at url.
func (i *installation) knativeService(namespace, name, url string) {
	i.t.Helper()
	i.eventually(30*time.Second, "Knative Service", func() error {
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
	// A kubectl takes as much of a processor as the pods that it asks for: were it always there, it would make them wait.
	for deadline := time.Now().Add(within); ; time.Sleep(250 * time.Millisecond) {
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
	s.Server = httptest.NewUnstartedServer(s)
	_ = s.Listener.Close()
	s.Listener = listen(t)
	s.Start()
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
