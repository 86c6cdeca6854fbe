package servers

import (
	"net"
	"os/exec"
	"strconv"
	"testing"
)

// JetStreamServer is a nats-server process with JetStream. It keeps its port and its data when it is killed and started again.
type JetStreamServer struct {
	t       testing.TB
	binary  string
	address string
	dir     string
	process *Process
}

// JetStream starts a nats-server with JetStream that lives until the test ends.
func JetStream(t testing.TB) *JetStreamServer {
	t.Helper()
	s := &JetStreamServer{
		t:       t,
		binary:  Build(t, "third_party/nats", "github.com/nats-io/nats-server/v2", "nats-server"),
		address: net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t))),
		dir:     t.TempDir(),
	}
	s.Start()
	return s
}

// URL is where clients connect to.
func (s *JetStreamServer) URL() string { return "nats://" + s.address }

// Kill ends the process with SIGKILL.
func (s *JetStreamServer) Kill() { s.process.Kill() }

// Start starts the process again with the data it had.
func (s *JetStreamServer) Start() {
	s.t.Helper()
	host, port, _ := net.SplitHostPort(s.address)
	s.process = StartProcess(s.t, exec.Command(s.binary, "-a", host, "-p", port, "-js", "-sd", s.dir), Listening(s.address))
}

// Process is the process that runs now.
func (s *JetStreamServer) Process() *Process { return s.process }
