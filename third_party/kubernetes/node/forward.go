package node

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
)

// portForward connects streams to ports of a pod, as the kubelet does.
func (n *node) portForward(w http.ResponseWriter, r *http.Request) {
	pod, err := n.pods.Pods(r.PathValue("namespace")).Get(r.PathValue("pod"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	portforward.ServePortForward(w, r, dialer{}, pod.Status.PodIP, string(pod.UID), &portforward.V4Options{}, time.Hour, 10*time.Second,
		portforward.SupportedProtocols)
}

// dialer is told the address of a pod for its name.
type dialer struct{}

func (dialer) PortForward(ctx context.Context, ip, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(ip, strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, stream)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, conn)
	return err
}
