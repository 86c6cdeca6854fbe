package servers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// MosquittoServer is a mosquitto process on loopback with a configuration of its own. It keeps its ports, its sessions and its users when
// it is killed and started again. Its methods fail the test that started it.
type MosquittoServer struct {
	// Open lets everybody in, Users those of SetPassword, both without TLS. TLS is Users with TLS. Mutual has TLS, and lets in whoever
	// shows a certificate of the authority. All are host:port.
	Open, Users, TLS, Mutual string
	// Authority signed the server's certificate.
	Authority *Authority

	t       testing.TB
	dir     string
	process *Process
}

// Mosquitto starts a mosquitto that lives until the test ends.
func Mosquitto(t testing.TB) *MosquittoServer {
	t.Helper()
	m := &MosquittoServer{t: t, dir: t.TempDir(), Authority: NewAuthority(t)}
	for _, address := range []*string{&m.Open, &m.Users, &m.TLS, &m.Mutual} {
		*address = FreeAddress(t)
	}
	shown := m.Authority.Server()
	for name, text := range map[string]string{
		"clients.pem": m.Authority.Cert, "cert.pem": shown.Cert, "key.pem": shown.Key, "passwords": "", "mosquitto.conf": m.config(),
	} {
		if err := os.WriteFile(m.file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.Start()
	return m
}

func (m *MosquittoServer) file(name string) string { return filepath.Join(m.dir, name) }

// config wants nothing dropped. As root it would become another user, who may not read the files.
func (m *MosquittoServer) config() string {
	listener := func(address string, lines ...string) string {
		_, port, _ := net.SplitHostPort(address)
		return strings.Join(append([]string{"listener " + port + " 127.0.0.1"}, lines...), "\n") + "\n"
	}
	secure := fmt.Sprintf("certfile %s\nkeyfile %s", m.file("cert.pem"), m.file("key.pem"))
	users := "allow_anonymous false\npassword_file " + m.file("passwords")
	return strings.Join([]string{
		"per_listener_settings true",
		"user root",
		"persistence true",
		"persistence_location " + m.dir + "/",
		"autosave_interval 1",
		"max_queued_messages 0",
		"set_tcp_nodelay true",
		listener(m.Open, "allow_anonymous true"),
		listener(m.Users, users),
		listener(m.TLS, users, secure),
		listener(m.Mutual, "allow_anonymous true", secure, "cafile "+m.file("clients.pem"), "require_certificate true"),
	}, "\n")
}

// Start starts the server again after Kill and returns once it listens.
func (m *MosquittoServer) Start() {
	m.t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program = "/usr/sbin/mosquitto" // where Debian has it, which is no place of a user's
	}
	m.process = StartProcess(m.t, exec.Command(program, "-c", m.file("mosquitto.conf")), func() error {
		for _, address := range []string{m.Open, m.Users, m.TLS, m.Mutual} {
			if err := Listening(address)(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Kill ends the server with SIGKILL.
func (m *MosquittoServer) Kill() { m.process.Kill() }

// SetPassword makes a user or changes its password. For that the server ends in the proper way, with all that it has on disk, and starts
// again: mosquitto 2.0.11 has a use after free when it reloads its files while it keeps the session of a user whose password changes.
func (m *MosquittoServer) SetPassword(user, password string) {
	m.t.Helper()
	if out, err := exec.Command("mosquitto_passwd", "-b", m.file("passwords"), user, password).CombinedOutput(); err != nil {
		m.t.Fatalf("mosquitto_passwd: %v\n%s", err, out)
	}
	m.restart()
}

// SetClients has Mutual let in only clients with a certificate of these authorities (PEM), in the same way.
func (m *MosquittoServer) SetClients(authorities ...string) {
	m.t.Helper()
	if err := os.WriteFile(m.file("clients.pem"), []byte(strings.Join(authorities, "")), 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.restart()
}

func (m *MosquittoServer) restart() {
	m.t.Helper()
	if err := syscall.Kill(m.process.Pid(), syscall.SIGTERM); err != nil {
		m.t.Fatal(err)
	}
	_ = m.process.Wait()
	m.Start()
}

// Publisher publishes as anybody.
func (m *MosquittoServer) Publisher() *MQTTPublisher {
	p := &MQTTPublisher{Address: m.Open}
	m.t.Cleanup(p.Close)
	return p
}

// Output is what the server has said, and how it ended if it has.
func (m *MosquittoServer) Output() string {
	select {
	case <-m.process.exited:
		return fmt.Sprintf("%sended: %v", m.process.Output(), m.process.err)
	default:
		return m.process.Output()
	}
}
