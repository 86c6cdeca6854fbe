package servers

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// NATSStreamingServer is a nats-streaming-server process with a file store. It keeps its port and its data when it is killed and
// started again.
type NATSStreamingServer struct {
	// ClusterID is what clients connect to.
	ClusterID string

	t       testing.TB
	binary  string
	scheme  string
	address string
	monitor string
	dir     string
	// directives are those of the streaming block.
	directives []string
	process    *Process
}

// natsStreamingConfig raises max_payload, for which there is no flag: an event of 900 KiB has 1.2 MiB as JSON.
const natsStreamingConfig = `listen: %q
http: %q
max_payload: 8MB
%s
streaming {
  cluster_id: %q
  store: FILE
  dir: %q
  %s
}
`

// NATSStreaming starts a nats-streaming-server that lives until the test ends. The directives are lines of the streaming block of its
// configuration.
func NATSStreaming(t testing.TB, directives ...string) *NATSStreamingServer {
	t.Helper()
	return natsStreaming(t, t.TempDir(), "nats", nil, directives)
}

// GuardedNATSStreaming is NATSStreaming with lines for the whole server, which say whom it lets in: itself too, in the way of the directives.
func GuardedNATSStreaming(t testing.TB, lines []string, directives ...string) *NATSStreamingServer {
	t.Helper()
	return natsStreaming(t, t.TempDir(), "nats", lines, directives)
}

// NATSStreamingOn is NATSStreaming with its data on a disk that can be filled.
func NATSStreamingOn(t testing.TB, d *SmallDisk, directives ...string) *NATSStreamingServer {
	t.Helper()
	return natsStreaming(t, d.Dir, "nats", nil, directives)
}

// SecuredNATSStreaming is NATSStreaming that speaks TLS only, with a certificate of the authority, and lets in the users of these lines of its
// configuration.
func SecuredNATSStreaming(t testing.TB, a *Authority, users ...string) *NATSStreamingServer {
	t.Helper()
	dir, c := t.TempDir(), a.Server()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, pem := range map[string]string{"cert.pem": c.Cert, "key.pem": c.Key, "ca.pem": a.Cert} {
		if err := os.WriteFile(path(name), []byte(pem), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	own := fmt.Sprintf("tls { cert_file: %q, key_file: %q, timeout: 10 }\nauthorization { users: [ %s\n{ user: stan, password: itself } ] }",
		path("cert.pem"), path("key.pem"), strings.Join(users, "\n"))
	return natsStreaming(t, dir, "tls", []string{own}, []string{"username: stan", "password: itself", "secure: true", fmt.Sprintf("tls { client_ca: %q }", path("ca.pem"))})
}

// natsStreaming starts a server with lines of its own configuration and with directives of its streaming block.
func natsStreaming(t testing.TB, dir, scheme string, lines, directives []string) *NATSStreamingServer {
	t.Helper()
	s := &NATSStreamingServer{
		ClusterID:  "stan",
		t:          t,
		scheme:     scheme,
		binary:     Build(t, "third_party/natsstreaming", "github.com/nats-io/nats-streaming-server", "nats-streaming-server"),
		address:    FreeAddress(t),
		monitor:    FreeAddress(t),
		dir:        dir,
		directives: directives,
	}
	s.configure(lines)
	s.Start()
	return s
}

func (s *NATSStreamingServer) config() string { return filepath.Join(s.dir, "server.conf") }

func (s *NATSStreamingServer) configure(lines []string) {
	s.t.Helper()
	config := fmt.Sprintf(natsStreamingConfig, s.address, s.monitor, strings.Join(lines, "\n"), s.ClusterID, filepath.Join(s.dir, "store"),
		strings.Join(s.directives, "\n  "))
	if err := os.WriteFile(s.config(), []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// Reload makes the process that runs change to these lines, a moment later.
func (s *NATSStreamingServer) Reload(lines ...string) {
	s.t.Helper()
	s.configure(lines)
	if err := syscall.Kill(s.process.Pid(), syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
}

// Configure gives the streaming block other directives when the process is started the next time.
func (s *NATSStreamingServer) Configure(directives ...string) {
	s.t.Helper()
	s.directives = directives
	s.configure(nil)
}

// URL is where clients connect to.
func (s *NATSStreamingServer) URL() string { return s.scheme + "://" + s.address }

// Kill ends the process with SIGKILL.
func (s *NATSStreamingServer) Kill() { s.process.Kill() }

// Start starts the process again with the data it had.
func (s *NATSStreamingServer) Start() {
	s.t.Helper()
	s.process = StartProcess(s.t, exec.Command(s.binary, "-c", s.config()), s.ready)
}

// Process is the process that runs now.
func (s *NATSStreamingServer) Process() *Process { return s.process }

// ready asks the monitoring endpoint: the port listens long before the store is recovered.
func (s *NATSStreamingServer) ready() error {
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get("http://" + s.monitor + "/streaming/channelsz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", resp.Request.URL, resp.Status)
	}
	return nil
}
