package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/util/cert"
)

// serveLogs answers `kubectl logs` and `kubectl port-forward`, which the API server passes on, until ctx ends. It returns the port it listens at.
func (n *node) serveLogs(ctx context.Context) (int32, error) {
	certPEM, keyPEM, err := cert.GenerateSelfSignedCertKey(nodeIP, []net.IP{net.ParseIP(nodeIP)}, nil)
	if err != nil {
		return 0, fmt.Errorf("node: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return 0, fmt.Errorf("node: %w", err)
	}
	l, err := tls.Listen("tcp", nodeIP+":0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		return 0, fmt.Errorf("node: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", n.containerLog)
	mux.HandleFunc("/portForward/{namespace}/{pod}", n.portForward)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	n.group.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.log("serve logs: %v", err)
		}
	})
	n.group.Go(func() {
		<-ctx.Done()
		_ = server.Close()
	})
	return int32(l.Addr().(*net.TCPAddr).Port), nil
}

// containerLog writes what a container wrote in all its runs. Of the options it knows tailLines and follow.
func (n *node) containerLog(w http.ResponseWriter, r *http.Request) {
	folder := r.PathValue("namespace") + "_" + r.PathValue("pod")
	f, err := os.Open(filepath.Join(n.dir, "pods", folder, r.PathValue("container")+".log"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	defer f.Close()
	raw, err := io.ReadAll(f)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if lines, err := strconv.Atoi(r.FormValue("tailLines")); err == nil {
		raw = tail(raw, lines)
	}
	_, err = w.Write(raw)
	for r.FormValue("follow") == "true" && err == nil {
		_ = http.NewResponseController(w).Flush()
		if !sleep(r.Context(), eager) {
			return
		}
		_, err = io.Copy(w, f)
	}
}

// tail is the last lines of raw.
func tail(raw []byte, lines int) []byte {
	all := bytes.SplitAfter(raw, []byte("\n"))
	if last := len(all) - 1; len(all[last]) == 0 {
		all = all[:last]
	}
	return bytes.Join(all[max(0, len(all)-lines):], nil)
}
