// Package node is a Kubernetes node for tests: it runs the containers of pods as local processes on loopback addresses.
package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// nodeIP is the node's own address.
const nodeIP = "127.78.0.1"

// Options say what the node is.
type Options struct {
	Name   string
	Dir    string // images.yaml is read from here; pods/ is written
	Config *rest.Config
}

type node struct {
	name       string
	dir        string
	config     *rest.Config
	client     kubernetes.Interface
	pods       listers.PodLister
	services   listers.ServiceLister
	slices     discoverylisters.EndpointSliceLister
	secrets    listers.SecretLister
	configMaps listers.ConfigMapLister
	proxyWake  chan struct{}

	mu      sync.Mutex
	runners map[types.UID]*podRunner
	lastIP  uint16
	group   sync.WaitGroup
}

// Run takes every pod of the cluster that has no node and runs it. It blocks until ctx ends; then all processes have ended.
func Run(ctx context.Context, o Options) error {
	config := rest.CopyConfig(o.Config)
	config.QPS, config.Burst = 200, 400
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	conn, err := net.ListenPacket("udp", DNSAddress)
	if err != nil {
		return fmt.Errorf("node: another cluster runs on this machine: %w", err)
	}
	lock, err := net.Listen("tcp", DNSAddress)
	if err != nil {
		return fmt.Errorf("node: another cluster runs on this machine: %w", err)
	}
	defer lock.Close()
	n := &node{
		name: o.Name, dir: o.Dir, config: config, client: client,
		runners: map[types.UID]*podRunner{}, proxyWake: make(chan struct{}, 1), lastIP: 255,
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	core := factory.Core().V1()
	n.pods, n.services = core.Pods().Lister(), core.Services().Lister()
	n.slices = factory.Discovery().V1().EndpointSlices().Lister()
	n.secrets, n.configMaps = core.Secrets().Lister(), core.ConfigMaps().Lister()
	for informer, changed := range map[cache.SharedIndexInformer]func(any){
		core.Pods().Informer():                               func(o any) { n.podChanged(ctx, o) },
		core.Services().Informer():                           func(any) { n.wakeProxy() },
		factory.Discovery().V1().EndpointSlices().Informer(): func(any) { n.wakeProxy() },
		core.Secrets().Informer():                            func(o any) { n.contentChanged(secret, o) },
		core.ConfigMaps().Informer():                         func(o any) { n.contentChanged(configMap, o) },
	} {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: changed, UpdateFunc: func(_, o any) { changed(o) }, DeleteFunc: changed,
		})
		if err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	n.group.Go(func() { n.serveDNS(ctx, conn) })
	p := &proxy{node: n, ports: map[string]*servicePort{}}
	n.group.Go(func() { p.run(ctx, n.proxyWake) })
	port, err := n.serveLogs(ctx)
	if err != nil {
		return err
	}
	err = n.register(ctx, port)
	if err == nil {
		<-ctx.Done()
	}
	factory.Shutdown()
	n.group.Wait()
	return err
}

func capacity() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("10Gi"), corev1.ResourcePods: resource.MustParse("1000"),
	}
}

// register makes the Node object and marks it ready. It tries until ctx ends.
func (n *node) register(ctx context.Context, logsPort int32) error {
	want := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: n.name, Labels: map[string]string{corev1.LabelHostname: n.name, corev1.LabelOSStable: "linux"},
	}}
	nodes := n.client.CoreV1().Nodes()
	for {
		_, err := nodes.Create(ctx, want, metav1.CreateOptions{})
		if err == nil || apierrors.IsAlreadyExists(err) {
			if err = n.markReady(ctx, logsPort); err == nil {
				return nil
			}
		}
		n.log("register: %v", err)
		if !sleep(ctx, retry) {
			return ctx.Err()
		}
	}
}

func (n *node) markReady(ctx context.Context, logsPort int32) error {
	got, err := n.client.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	got.Status = corev1.NodeStatus{
		Capacity: capacity(), Allocatable: capacity(),
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeIP}, {Type: corev1.NodeHostName, Address: n.name}},
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "NodeReady",
			LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
		}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: logsPort}},
		NodeInfo:        corev1.NodeSystemInfo{ContainerRuntimeVersion: "process://1", KubeletVersion: "v1.37.2", OperatingSystem: "linux"},
	}
	_, err = n.client.CoreV1().Nodes().UpdateStatus(ctx, got, metav1.UpdateOptions{})
	return err
}

// podChanged starts a runner for a pod that has none and wakes the one that it has.
func (n *node) podChanged(ctx context.Context, o any) {
	n.wakeProxy()
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.runners[pod.UID]; r != nil {
		r.changed()
		return
	}
	if ctx.Err() != nil || pod.Spec.NodeName != "" && pod.Spec.NodeName != n.name {
		return
	}
	if got, err := n.pods.Pods(pod.Namespace).Get(pod.Name); err != nil || got.UID != pod.UID {
		return // gone, and so is its runner
	}
	r := newPodRunner(n, pod, n.freeIP())
	n.runners[pod.UID] = r
	n.group.Go(func() {
		r.run(ctx)
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.runners, pod.UID)
	})
}

// freeIP is the next address of 127.78.1.0 and up that no pod has. The caller holds the lock.
func (n *node) freeIP() [4]byte {
	used := map[[4]byte]bool{}
	for _, r := range n.runners {
		used[r.ip] = true
	}
	for {
		n.lastIP = max(n.lastIP+1, 256)
		ip := [4]byte{127, 78, byte(n.lastIP >> 8), byte(n.lastIP)}
		if !used[ip] {
			return ip
		}
	}
}

// contentChanged wakes the pods that show a Secret or ConfigMap.
func (n *node) contentChanged(k kind, o any) {
	name, err := cache.DeletionHandlingObjectToName(o)
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.runners {
		if r.pod.Namespace == name.Namespace && r.volumes.show(k, name.Name) {
			r.stale.Store(true)
			r.changed()
		}
	}
}

func (n *node) wakeProxy() {
	select {
	case n.proxyWake <- struct{}{}:
	default:
	}
}

func (n *node) log(format string, args ...any) {
	fmt.Fprintf(os.Stdout, time.Now().Format("15:04:05.000 ")+format+"\n", args...)
}
