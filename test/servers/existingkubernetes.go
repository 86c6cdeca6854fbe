package servers

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// clusterHost, in the environment, is the address of this machine that pods of a cluster which is not ours can connect to.
const clusterHost = "CLUSTER_TEST_HOST"

// ClusterHost is the address to listen at for pods: those of our own cluster are on this machine.
func ClusterHost() string { return cmp.Or(os.Getenv(clusterHost), "127.0.0.1") }

// isOurs reports whether third_party/kubernetes runs the cluster of a kubeconfig. It keeps its files beside it.
func isOurs(kubeconfig string) bool {
	return exists(filepath.Join(filepath.Dir(kubeconfig), "cluster.pid"))
}

// checkCluster says what is missing in an environment whose KUBECONFIG is of a cluster that is not ours.
func checkCluster(env func(string) string) error {
	kubeconfig, host := env("KUBECONFIG"), net.ParseIP(env(clusterHost)).To4()
	_, noKo := exec.LookPath("ko")
	switch {
	case kubeconfig == "" || filepath.IsAbs(kubeconfig) && isOurs(kubeconfig):
		return nil
	case !filepath.IsAbs(kubeconfig) || !exists(kubeconfig):
		return fmt.Errorf("KUBECONFIG=%s has to be the absolute path of one file", kubeconfig)
	case (env("KO_DOCKER_REPO") == "" || noKo != nil) && (env("IMAGE_REPO") == "" || env("VERSION") == ""):
		return fmt.Errorf("`make cluster` does not run the cluster of KUBECONFIG=%s, so its pods need images: "+
			"set IMAGE_REPO and VERSION to those of a release that it can pull, or KO_DOCKER_REPO with ko installed", kubeconfig)
	case host == nil || host.IsLoopback() || host.IsUnspecified():
		return fmt.Errorf("`make cluster` does not run the cluster of KUBECONFIG=%s, so its pods need a way to the brokers and sinks of the tests: "+
			"set %s to an IPv4 address of this machine that they can connect to", kubeconfig, clusterHost)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host.String(), "0"))
	if err != nil {
		return fmt.Errorf("%s is no address of this machine: %w", clusterHost, err)
	}
	return l.Close()
}

// NeedsOwnKubernetes leaves the test out, and says why, if $KUBECONFIG is of a cluster that is not ours. It is for what nobody can do through
// an API server: why completes the sentence "it ...".
func NeedsOwnKubernetes(t testing.TB, why string) {
	t.Helper()
	if err := checkCluster(os.Getenv); err != nil {
		t.Fatal(err)
	}
	if kubeconfig := os.Getenv("KUBECONFIG"); kubeconfig != "" && !isOurs(kubeconfig) {
		t.Skipf("left out, since `make cluster` does not run the cluster of KUBECONFIG=%s: it %s", kubeconfig, why)
	}
}

// Ours reports whether third_party/kubernetes runs the cluster, so that its pods are processes of this machine.
func (c *KubernetesCluster) Ours() bool { return c.dir != "" }

// Stays reports whether the cluster is there when the test has ended, which has to leave it as it was.
func (c *KubernetesCluster) Stays() bool { return os.Getenv("KUBECONFIG") != "" }

// DeleteAfter is kubectl delete with these arguments when the test ends, if the cluster stays.
func (c *KubernetesCluster) DeleteAfter(args ...string) {
	if !c.Stays() {
		return
	}
	c.t.Cleanup(func() {
		if _, err := c.Try(append([]string{"delete", "--ignore-not-found", "--timeout=180s"}, args...)...); err != nil {
			c.t.Error(err)
		}
	})
}

var forwarding = regexp.MustCompile(`(?m)^Forwarding from (127\.0\.0\.1:\d+) `)

// Forward returns an address of this machine that leads to a port of a pod, until the test ends.
func (c *KubernetesCluster) Forward(namespace, pod string, port int) string {
	c.t.Helper()
	key := fmt.Sprint(namespace, "/", pod, ":", port)
	if c.forwarded[key] == "" {
		cmd := exec.Command(c.binary, "kubectl", "--kubeconfig", c.kubeconfig, "-n", namespace, "port-forward", "pod/"+pod, ":"+strconv.Itoa(port))
		p := StartProcess(c.t, cmd, func() error { return nil })
		err := p.await(func() error {
			found := forwarding.FindStringSubmatch(p.Output())
			if found == nil {
				return errors.New("nothing is forwarded")
			}
			c.forwarded[key] = found[1]
			return nil
		})
		if err != nil {
			c.t.Fatalf("forward to %s: %v\n%s", key, err, p.Output())
		}
	}
	return c.forwarded[key]
}
