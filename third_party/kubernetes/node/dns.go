package node

import (
	"context"
	"net"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
)

const dnsIP = "127.77.255.53"

// DNSAddress is where pods ask for names. It is also what keeps two clusters off one machine.
const DNSAddress = dnsIP + ":53"

// serveDNS answers for <service>.<namespace>.svc.cluster.local and <host>.<service>.<namespace>.svc.cluster.local until ctx ends; every other name does not exist.
func (n *node) serveDNS(ctx context.Context, conn net.PacketConn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	buf := make([]byte, 4096)
	for ctx.Err() == nil {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			continue
		}
		if reply, err := n.resolve(buf[:size]); err == nil {
			_, _ = conn.WriteTo(reply, from)
		}
	}
}

func (n *node) resolve(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	addresses, exists := n.addresses(strings.ToLower(q.Name.String()))
	reply := dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true}
	if !exists {
		reply.RCode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, reply)
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q); err != nil {
		return nil, err
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	for _, a := range addresses {
		ip := net.ParseIP(a).To4()
		if q.Type != dnsmessage.TypeA || ip == nil {
			continue
		}
		// A time to live of zero: tests change Services.
		err := b.AResource(dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}, dnsmessage.AResource{A: [4]byte(ip)})
		if err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// addresses are the Service's own, or those of its ready pods if it is headless. A pod of such a Service may have a name of its own there.
func (n *node) addresses(name string) (ips []string, exists bool) {
	rest, ok := strings.CutSuffix(name, ".svc.cluster.local.")
	if !ok {
		return nil, false
	}
	host := ""
	if strings.Count(rest, ".") == 2 {
		host, rest, _ = strings.Cut(rest, ".")
	}
	service, namespace, _ := strings.Cut(rest, ".")
	s, err := n.services.Services(namespace).Get(service)
	if err != nil {
		return nil, false
	}
	if s.Spec.ClusterIP != corev1.ClusterIPNone {
		return s.Spec.ClusterIPs, host == ""
	}
	for _, pod := range n.readyPods(s) {
		if host == "" || pod.Spec.Hostname == host && pod.Spec.Subdomain == service {
			ips = append(ips, pod.Status.PodIP)
		}
	}
	return ips, host == "" || ips != nil
}
