package servers

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// KubernetesCluster is a real API server, controller manager and etcd with a node that runs containers as local processes, all on
// loopback addresses. Its methods fail the test that started it.
//
// A container's image is a program that Images names. The process sees the volumes of its pod, the names of Services and its service
// account; when it listens on every address it gets the pod's. It shares everything else with the machine.
type KubernetesCluster struct {
	t          testing.TB
	binary     string
	kubeconfig string
	dir        string            // empty if the cluster is not one of ours
	forwarded  map[string]string // local addresses that lead to ports of pods
}

// clusterStart is how long a cluster may take to start, once it is built.
const clusterStart = time.Minute

// Kubernetes starts a cluster that lives until the test ends, which needs root, or uses the one that $KUBECONFIG names. One that takes longer
// to start than clusterStart is started again, since the machine may have been busy; the second time, that fails the test.
// There is one at a time on a machine: others wait, so subtests share their parent's.
// The flags are more of its API server's.
func Kubernetes(t testing.TB, flags ...string) *KubernetesCluster {
	t.Helper()
	if err := checkCluster(os.Getenv); err != nil {
		t.Fatal(err)
	}
	module := filepath.Join("third_party", "kubernetes")
	ldflags, err := os.ReadFile(filepath.Join(root(), module, "ldflags"))
	if err != nil {
		t.Fatal(err)
	}
	c := &KubernetesCluster{t: t, kubeconfig: os.Getenv("KUBECONFIG"), forwarded: map[string]string{}}
	t.Log("building the cluster: the first time on a machine it takes some 12 minutes of processor time")
	c.binary = Build(t, module, ".", "kube", "-ldflags", strings.TrimSpace(string(ldflags)))
	if c.kubeconfig != "" {
		if isOurs(c.kubeconfig) {
			c.dir = filepath.Dir(c.kubeconfig)
		}
		return c
	}
	Beside(t) // before the other lock: whoever has to be alone wants both, in this order
	unlock, err := lockFile(filepath.Join(os.TempDir(), "openfunction-events-cluster.lock"), syscall.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unlock)
	for again := false; ; again = true {
		begin := time.Now()
		stop := c.start(flags)
		took := time.Since(begin)
		t.Logf("the cluster is ready after %s", took.Round(100*time.Millisecond))
		if took <= clusterStart {
			t.Cleanup(stop)
			return c
		}
		stop()
		if again {
			t.Fatalf("a cluster is not ready within %s, and it was not the first", clusterStart)
		}
	}
}

// start starts a new cluster.
func (c *KubernetesCluster) start(flags []string) (stop func()) {
	c.t.Helper()
	c.dir = c.t.TempDir()
	p := StartProcess(c.t, exec.Command(c.binary, append([]string{"cluster", "--dir", c.dir, "--"}, flags...)...), func() error {
		if !exists(filepath.Join(c.dir, "cluster.pid")) {
			return errors.New("the cluster is not ready")
		}
		return nil
	})
	stop = func() {
		_ = syscall.Kill(p.Pid(), syscall.SIGTERM)
		_ = p.Wait()
	}
	// As a person gets it, who starts the cluster with make.
	c.poll("the cluster does not print KUBECONFIG=", func() error {
		m := regexp.MustCompile(`(?m)^KUBECONFIG=(.+)$`).FindStringSubmatch(p.Output())
		if m == nil {
			return errors.New(p.Output())
		}
		c.kubeconfig = m[1]
		return nil
	})
	return stop
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Kubeconfig is the path of a kubeconfig of the cluster's administrator.
func (c *KubernetesCluster) Kubeconfig() string { return c.kubeconfig }

// Kubectl runs kubectl and returns its standard output. It fails the test if kubectl does.
func (c *KubernetesCluster) Kubectl(args ...string) string {
	c.t.Helper()
	out, err := c.Try(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// Try runs kubectl and returns its standard output; the error has what it wrote to standard error.
func (c *KubernetesCluster) Try(args ...string) (string, error) { return c.TryInput("", args...) }

// Apply applies a manifest of one or more documents.
func (c *KubernetesCluster) Apply(manifest string) {
	c.t.Helper()
	if _, err := c.TryApply(manifest); err != nil {
		c.t.Fatal(err)
	}
}

// TryApply is Apply that returns its output, and its error with what kubectl wrote to standard error.
func (c *KubernetesCluster) TryApply(manifest string) (string, error) {
	return c.TryInput(manifest, "apply", "-f", "-")
}

// TryInput is Try for a kubectl that reads stdin.
func (c *KubernetesCluster) TryInput(stdin string, args ...string) (string, error) {
	cmd := exec.Command(c.binary, append([]string{"kubectl", "--kubeconfig", c.kubeconfig}, args...)...)
	cmd.Env = append(os.Environ(), "GOGC=off") // a third of what a kubectl costs is garbage that goes with it
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, &stderr)
	}
	return stdout.String(), nil
}

// Images adds to the table that says which program an image is: `/path/to/binary [args...]`. An image that starts with a key is that
// key's too.
func (c *KubernetesCluster) Images(programs map[string]string) {
	c.t.Helper()
	path := c.file("images.yaml")
	table := map[string]string{}
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, &table); err != nil {
		c.t.Fatalf("read %s: %v", path, err)
	}
	maps.Copy(table, programs)
	if raw, err = yaml.Marshal(table); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path+".next", raw, 0o644); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		c.t.Fatal(err)
	}
}

// Log is what a container of a pod wrote so far, in all its runs. It is there when the pod is gone.
func (c *KubernetesCluster) Log(namespace, pod, container string) string {
	c.t.Helper()
	raw, err := os.ReadFile(c.file(filepath.Join("pods", namespace+"_"+pod, container+".log")))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(raw)
}

// KillAPIServer ends the API server with SIGKILL.
func (c *KubernetesCluster) KillAPIServer() {
	c.t.Helper()
	pid := c.pid("kube-apiserver.pid")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		c.t.Fatalf("kill kube-apiserver: %v", err)
	}
	c.poll("kube-apiserver is not gone", func() error {
		if syscall.Kill(pid, 0) == nil {
			return errors.New("it runs")
		}
		return nil
	})
}

// StartAPIServer starts the API server again with the data it had and returns once it serves.
func (c *KubernetesCluster) StartAPIServer() {
	c.t.Helper()
	cluster := c.pid("cluster.pid")
	c.poll("kube-apiserver does not start", func() error {
		if err := syscall.Kill(cluster, syscall.SIGHUP); err != nil {
			return err
		}
		_, err := c.Try("get", "--raw", "/readyz")
		return err
	})
}

func (c *KubernetesCluster) poll(failure string, done func() error) {
	c.t.Helper()
	deadline := time.Now().Add(startTimeout)
	for {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: %v", failure, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *KubernetesCluster) file(name string) string {
	c.t.Helper()
	if c.dir == "" {
		c.t.Fatalf("%s: the cluster of %s was not started by third_party/kubernetes", name, c.kubeconfig)
	}
	return filepath.Join(c.dir, name)
}

func (c *KubernetesCluster) pid(name string) int {
	c.t.Helper()
	raw, err := os.ReadFile(c.file(name))
	if err != nil {
		c.t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(raw))
	if err != nil {
		c.t.Fatalf("read %s: %v", name, err)
	}
	return pid
}

// AuditLog is what pods asked the API server for so far, with the answers' statuses: lines of JSON, each an Event of audit.k8s.io/v1.
func (c *KubernetesCluster) AuditLog() []byte {
	c.t.Helper()
	log, err := os.ReadFile(c.file("audit.log"))
	if err != nil {
		c.t.Fatal(err)
	}
	return log
}
