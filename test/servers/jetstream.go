package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// JetStreamServer is a nats-server process with JetStream. It keeps its port and its data when it is killed and started again.
type JetStreamServer struct {
	t       testing.TB
	binary  string
	scheme  string
	address string
	dir     string
	tls     string // a directive, empty without
	process *Process
}

// JetStream starts a nats-server with JetStream that lives until the test ends. The directives are lines of its configuration.
func JetStream(t testing.TB, directives ...string) *JetStreamServer {
	t.Helper()
	s := newJetStream(t)
	s.configure(directives)
	s.Start()
	return s
}

// JetStreamTLS is JetStream that speaks TLS only, with a certificate of the authority.
func JetStreamTLS(t testing.TB, a *Authority, directives ...string) *JetStreamServer {
	t.Helper()
	s := newJetStream(t)
	s.speakTLS(a)
	s.configure(directives)
	s.Start()
	return s
}

func (s *JetStreamServer) speakTLS(a *Authority) {
	s.t.Helper()
	s.scheme = "tls"
	cert, key, c := filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem"), a.Server()
	for name, pem := range map[string]string{cert: c.Cert, key: c.Key} {
		if err := os.WriteFile(name, []byte(pem), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	s.tls = fmt.Sprintf("tls { cert_file: %q, key_file: %q, timeout: 10 }", cert, key)
}

func newJetStream(t testing.TB) *JetStreamServer {
	t.Helper()
	return &JetStreamServer{
		t:       t,
		binary:  Build(t, "third_party/nats", "github.com/nats-io/nats-server/v2", "nats-server"),
		scheme:  "nats",
		address: FreeAddress(t),
		dir:     t.TempDir(),
	}
}

func (s *JetStreamServer) config() string { return filepath.Join(s.dir, "server.conf") }

func (s *JetStreamServer) configure(directives []string) {
	s.t.Helper()
	lines := append([]string{fmt.Sprintf("listen: %q", s.address), fmt.Sprintf("jetstream { store_dir: %q }", s.dir), s.tls}, directives...)
	if err := os.WriteFile(s.config(), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// Reload makes the process that runs change to these directives, a moment later.
func (s *JetStreamServer) Reload(directives ...string) {
	s.t.Helper()
	s.configure(directives)
	if err := syscall.Kill(s.process.Pid(), syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
}

// URL is where clients connect to.
func (s *JetStreamServer) URL() string { return s.scheme + "://" + s.address }

// Kill ends the process with SIGKILL.
func (s *JetStreamServer) Kill() { s.process.Kill() }

// Start starts the process again with the data it had.
func (s *JetStreamServer) Start() {
	s.t.Helper()
	s.process = StartProcess(s.t, exec.Command(s.binary, "-c", s.config()), Listening(s.address))
}

// Wipe removes the data of a server that was killed.
func (s *JetStreamServer) Wipe() {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, "jetstream")); err != nil {
		s.t.Fatal(err)
	}
}

// Process is the process that runs now.
func (s *JetStreamServer) Process() *Process { return s.process }
