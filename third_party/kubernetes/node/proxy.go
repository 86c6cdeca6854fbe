package node

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
)

// proxy listens at the addresses of Services and forwards each connection to a ready pod, in turn, or to what the EndpointSlices say of a
// Service that selects no pods. An address that leads nowhere refuses connections. Only TCP is forwarded.
type proxy struct {
	node *node

	mu    sync.Mutex
	ports map[string]*servicePort // by address
	group sync.WaitGroup
}

type servicePort struct {
	listener net.Listener

	mu       sync.Mutex
	backends []string
	next     int
}

// run follows Services and pods until ctx ends and every connection is closed.
func (p *proxy) run(ctx context.Context, wake <-chan struct{}) {
	defer p.group.Wait()
	defer p.set(ctx, nil)
	for {
		p.set(ctx, p.wanted())
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-time.After(time.Second): // an address may have been taken
		}
	}
}

// wanted are the backends of each address that has some.
func (p *proxy) wanted() map[string][]string {
	all, err := p.node.services.List(labels.Everything())
	if err != nil {
		return nil
	}
	wanted := map[string][]string{}
	for _, s := range all {
		pods := p.node.readyPods(s)
		for _, port := range s.Spec.Ports {
			address := net.JoinHostPort(s.Spec.ClusterIP, strconv.Itoa(int(port.Port)))
			if !strings.HasPrefix(address, "127.77.") || port.Protocol != corev1.ProtocolTCP {
				continue
			}
			if s.Namespace == "default" && s.Name == "kubernetes" {
				wanted[address] = []string{strings.TrimPrefix(p.node.config.Host, "https://")}
				continue
			}
			b := backends(pods, port)
			if len(s.Spec.Selector) == 0 {
				b = p.node.written(s, port)
			}
			if len(b) > 0 {
				wanted[address] = b
			}
		}
	}
	return wanted
}

// written are the addresses that EndpointSlices have for the port.
func (n *node) written(s *corev1.Service, port corev1.ServicePort) []string {
	all, err := n.slices.EndpointSlices(s.Namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: s.Name}))
	if err != nil {
		return nil
	}
	var list []string
	for _, slice := range all {
		for _, p := range slice.Ports {
			if p.Port == nil || p.Name != nil && *p.Name != port.Name {
				continue
			}
			for _, endpoint := range slice.Endpoints {
				list = append(list, net.JoinHostPort(endpoint.Addresses[0], strconv.Itoa(int(*p.Port))))
			}
		}
	}
	slices.Sort(list)
	return list
}

func backends(pods []*corev1.Pod, port corev1.ServicePort) []string {
	var list []string
	for _, pod := range pods {
		number, err := targetPort(pod, port)
		if err == nil {
			list = append(list, net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(number)))
		}
	}
	slices.Sort(list)
	return list
}

func targetPort(pod *corev1.Pod, port corev1.ServicePort) (int, error) {
	if port.TargetPort.Type == intstr.Int {
		if port.TargetPort.IntVal == 0 {
			return int(port.Port), nil
		}
		return port.TargetPort.IntValue(), nil
	}
	for _, c := range pod.Spec.Containers {
		for _, cp := range c.Ports {
			if cp.Name == port.TargetPort.StrVal {
				return int(cp.ContainerPort), nil
			}
		}
	}
	return 0, fmt.Errorf("pod %s has no port %s", pod.Name, port.TargetPort.StrVal)
}

// readyPods are those that the Service selects.
func (n *node) readyPods(s *corev1.Service) []*corev1.Pod {
	if len(s.Spec.Selector) == 0 {
		return nil
	}
	pods, err := n.pods.Pods(s.Namespace).List(labels.SelectorFromSet(s.Spec.Selector))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(pods, func(pod *corev1.Pod) bool {
		return pod.DeletionTimestamp != nil || pod.Status.PodIP == "" || !podutil.IsPodReady(pod) && !s.Spec.PublishNotReadyAddresses
	})
}

// set opens and closes listeners until they are those of wanted.
func (p *proxy) set(ctx context.Context, wanted map[string][]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, port := range p.ports {
		if wanted[address] == nil {
			_ = port.listener.Close()
			delete(p.ports, address)
		}
	}
	for address, list := range wanted {
		port := p.ports[address]
		if port == nil {
			l, err := net.Listen("tcp", address)
			if err != nil {
				p.node.log("proxy: %v", err)
				continue
			}
			port = &servicePort{listener: l}
			p.ports[address] = port
			p.group.Go(func() { p.accept(ctx, port) })
		}
		port.mu.Lock()
		port.backends = list
		port.mu.Unlock()
	}
}

func (p *proxy) accept(ctx context.Context, port *servicePort) {
	for {
		conn, err := port.listener.Accept()
		if err != nil {
			return
		}
		p.group.Go(func() { port.forward(ctx, conn.(*net.TCPConn)) })
	}
}

// dial connects to the next backend that accepts.
func (port *servicePort) dial(ctx context.Context) (net.Conn, error) {
	port.mu.Lock()
	list, first := port.backends, port.next
	port.next++
	port.mu.Unlock()
	err := fmt.Errorf("no backend")
	for i := range list {
		var conn net.Conn
		dialer := net.Dialer{Timeout: time.Second}
		if conn, err = dialer.DialContext(ctx, "tcp", list[(first+i)%len(list)]); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// forward copies both ways until both sides have ended, one breaks or ctx ends.
func (port *servicePort) forward(ctx context.Context, in *net.TCPConn) {
	defer in.Close()
	conn, err := port.dial(ctx)
	if err != nil {
		_ = in.SetLinger(0) // the client sees a reset, not an end
		return
	}
	out := conn.(*net.TCPConn)
	defer out.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = in.Close(), out.Close() })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pipe(out, in)
	}()
	pipe(in, out)
	<-done
}

// pipe copies until src ends, which dst is told; an error ends both.
func pipe(dst, src *net.TCPConn) {
	if _, err := io.Copy(dst, src); err != nil {
		_ = src.SetLinger(0)
		_ = dst.SetLinger(0)
		_, _ = src.Close(), dst.Close()
		return
	}
	_ = dst.CloseWrite()
}
