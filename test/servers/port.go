package servers

import (
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Ports for servers are below those that the kernel gives to connections and to listeners that want any (32768 and up, unless changed: see
// ip(7)): a server that is away for a while must find its port free when it comes back. The test cluster takes those from 25000.
const firstPort, ports = 10000, 15000

// FreePort returns a TCP port of 127.0.0.1 that is the test's until it ends: nobody else on the machine gets it from here.
func FreePort(t testing.TB) int {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "openfunction-events-ports")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		port := firstPort + rand.IntN(ports)
		if release := reserve(filepath.Join(dir, strconv.Itoa(port)), port); release != nil {
			t.Cleanup(release)
			return port
		}
	}
	t.Fatalf("no free port from %d to %d", firstPort, firstPort+ports-1)
	return 0
}

// FreeAddress is 127.0.0.1 with a FreePort.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t)))
}

// reserve returns nil if somebody has the port.
func reserve(name string, port int) (release func()) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		_ = f.Close()
		return nil
	}
	_ = l.Close()
	return func() { _ = f.Close() }
}
