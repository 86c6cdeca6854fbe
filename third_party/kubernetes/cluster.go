package main

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/openfunction/events/third_party/kubernetes/node"
)

// readyTimeout bounds how long a part of the cluster may take until it is ready.
const readyTimeout = 90 * time.Second

// auditPolicy has every request of pods logged once it is answered, a watch when it begins: who asked for what, and the answer's status.
// Accounts of kube-system are the controller manager's.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, userGroups: ["system:serviceaccounts:kube-system"]}
- {level: Metadata, userGroups: ["system:serviceaccounts"]}
`

// cluster is one Kubernetes. There can be one at a time on a machine, because addresses of Services and pods are the machine's.
type cluster struct {
	dir        string
	kubeconfig string
	etcd       *child
	apiserver  *child
	others     []*child // the controller manager and the node
	etcdPort   string
}

// newCluster returns a cluster that runs in dir, whose API server has these flags besides.
func newCluster(dir string, apiserver []string) (*cluster, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if os.Getuid() != 0 {
		return nil, errors.New("cluster: pods have mount namespaces and Services have ports below 1024, which only root may have: run it as root")
	}
	l, err := net.Listen("tcp", node.DNSAddress)
	if err != nil {
		return nil, fmt.Errorf("cluster: another one runs on this machine: %w", err)
	}
	_ = l.Close()
	for _, old := range []string{"etcd", "pods", "claims", "audit.log"} {
		if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
			return nil, fmt.Errorf("cluster: remove the earlier one: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	c := &cluster{dir: dir}
	return c, c.configure(apiserver)
}

// configure writes certificates and kubeconfigs and decides on every child's flags.
func (c *cluster) configure(apiserver []string) error {
	ports, err := freePorts(4)
	if err != nil {
		return err
	}
	c.etcdPort = ports[0]
	file := func(name string) string { return filepath.Join(c.dir, name) }
	a, err := newAuthority(c.dir)
	if err != nil {
		return err
	}
	server := "https://127.0.0.1:" + ports[2]
	users := map[string]pkix.Name{
		"kubeconfig":                     {CommonName: "admin", Organization: []string{"system:masters"}},
		"kube-controller-manager.config": {CommonName: "system:kube-controller-manager"},
		"node.config":                    {CommonName: "local", Organization: []string{"system:masters"}},
	}
	for name, user := range users {
		if _, err := a.kubeconfig(name, server, user); err != nil {
			return err
		}
	}
	err = errors.Join(a.serverFiles(), serviceAccountKey(file("sa.key")), os.WriteFile(file("audit.yaml"), []byte(auditPolicy), 0o644))
	if err != nil {
		return err
	}
	c.kubeconfig = file("kubeconfig")
	etcd := "http://127.0.0.1:" + ports[0]
	c.etcd = &child{name: "etcd", dir: c.dir, args: []string{
		"--data-dir=" + file("etcd"), "--listen-client-url=" + etcd, "--listen-peer-url=http://127.0.0.1:" + ports[1],
	}}
	c.apiserver = &child{name: "kube-apiserver", dir: c.dir, args: append([]string{
		"--etcd-servers=" + etcd,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + ports[2],
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=127.77.0.0/16",
		"--authorization-mode=RBAC", "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
		// Its maximum is more than any test makes, and what a cluster that runs for days may leave behind.
		"--audit-policy-file=" + file("audit.yaml"), "--audit-log-path=" + file("audit.log"), "--audit-log-maxsize=200", "--audit-log-maxbackup=1",
		"--client-ca-file=" + file("ca.crt"), "--allow-privileged=true",
		"--kubelet-preferred-address-types=InternalIP",
		"--tls-cert-file=" + file("apiserver.crt"), "--tls-private-key-file=" + file("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + file("sa.key"), "--service-account-signing-key-file=" + file("sa.key"),
	}, apiserver...)}
	c.others = []*child{
		{name: "kube-controller-manager", dir: c.dir, args: []string{
			"--kubeconfig=" + file("kube-controller-manager.config"), "--leader-elect=false", "--use-service-account-credentials",
			"--service-account-private-key-file=" + file("sa.key"), "--root-ca-file=" + file("ca.crt"),
			"--bind-address=127.0.0.1", "--secure-port=0", "--flex-volume-plugin-dir=" + file("flex"),
			// Slices of endpoints refuse loopback addresses; the node's proxy selects pods itself.
			"--controllers=*,-node-ipam-controller,-node-lifecycle-controller,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller",
		}},
		{name: "node", dir: c.dir, args: []string{"--dir=" + c.dir, "--kubeconfig=" + file("node.config")}},
	}
	return nil
}

// run starts everything, prints where the kubeconfig is, and blocks until ctx ends and every child has ended.
func (c *cluster) run(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	defer c.stop()
	begin := time.Now()
	if err := c.start(ctx); err != nil {
		return err
	}
	pid := filepath.Join(c.dir, "cluster.pid")
	if err := os.WriteFile(pid, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return err
	}
	defer os.Remove(pid)
	fmt.Printf("ready after %s; end it with ctrl-c\nKUBECONFIG=%s\n", time.Since(begin).Round(time.Millisecond), c.kubeconfig)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
		}
		if err := c.start(ctx); err != nil {
			fmt.Println(err)
		}
	}
}

// start starts what does not run and returns when all of it is ready.
func (c *cluster) start(ctx context.Context) error {
	fmt.Println("starting etcd")
	if err := c.etcd.start(); err != nil {
		return err
	}
	if err := await(ctx, c.etcd, c.etcdListens); err != nil {
		return err
	}
	fmt.Println("starting kube-apiserver")
	if err := c.apiserver.start(); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	err = await(ctx, c.apiserver, func(ctx context.Context) error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	if err != nil {
		return err
	}
	for _, other := range c.others {
		fmt.Println("starting", other.name)
		if err := other.start(); err != nil {
			return err
		}
	}
	err = await(ctx, c.others[0], func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if err != nil {
		return err
	}
	return await(ctx, c.others[1], func(ctx context.Context) error { return nodeReady(ctx, client) })
}

func (c *cluster) etcdListens(context.Context) error {
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+c.etcdPort, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

func nodeReady(ctx context.Context, client kubernetes.Interface) error {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range nodes.Items {
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
	}
	return errors.New("no node is ready")
}

// await polls until ready returns nil, the child ends or time is up.
func await(ctx context.Context, c *child, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if ended := c.running(); ended != nil {
			return ended
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("await %s: %w", c.name, errors.Join(ctx.Err(), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop ends the children, those that need others first.
func (c *cluster) stop() {
	c.others[1].stop()
	c.others[0].stop()
	c.apiserver.stop()
	c.etcd.stop()
}

// freePorts returns ports of 127.0.0.1 that nobody listened on a moment ago. They are below those that the kernel gives to connections:
// a server that is started again must find its port free.
func freePorts(n int) ([]string, error) {
	const first, end = 25000, 30000
	var ports []string
	for port := first + rand.IntN(end-first); len(ports) < n && port < end; port++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer l.Close()
		ports = append(ports, strconv.Itoa(port))
	}
	if len(ports) < n {
		return nil, fmt.Errorf("no %d free ports from %d to %d: try again", n, first, end-1)
	}
	return ports, nil
}
