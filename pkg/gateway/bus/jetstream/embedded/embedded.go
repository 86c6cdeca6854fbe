// Package embedded runs a JetStream server inside the process, for a bus that needs no broker.
package embedded

import (
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// MaxPayload is the largest message in bytes that the server takes.
const MaxPayload = 8 << 20

// Options are what a Server needs.
type Options struct {
	// Dir keeps the events; empty means a temporary directory that Close removes.
	Dir string
	// SyncInterval is how often data is forced to disk; zero means before every acknowledgement.
	SyncInterval time.Duration
	// MaxBytes bounds what is kept on disk; zero means no bound.
	MaxBytes int64
	// Listen is a loopback address host:port to serve as well; empty means in process only.
	Host string
	Port int
}

// Server is a running JetStream server. It is a nats.InProcessConnProvider.
type Server struct {
	*server.Server
	temporary string
}

// Start returns a server that is ready for connections.
func Start(o Options) (*Server, error) {
	s := &Server{}
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "openfunction-events-")
		if err != nil {
			return nil, fmt.Errorf("embedded bus: %w", err)
		}
		o.Dir, s.temporary = dir, dir
	}
	if err := usable(o.Dir); err != nil {
		s.remove()
		return nil, fmt.Errorf("embedded bus: %w", err)
	}
	settings := &server.Options{
		ServerName: "embedded", DontListen: o.Host == "", Host: o.Host, Port: o.Port,
		JetStream: true, StoreDir: o.Dir, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: maxStore(o.MaxBytes),
		SyncInterval: o.SyncInterval, SyncAlways: o.SyncInterval == 0,
		MaxPayload: MaxPayload, NoLog: true, NoSigs: true,
	}
	if settings.Host != "" && settings.Port == 0 {
		settings.Port = server.RANDOM_PORT
	}
	ns, err := server.NewServer(settings)
	if err != nil {
		s.remove()
		return nil, fmt.Errorf("embedded bus in %s: %w", o.Dir, err)
	}
	s.Server = ns
	ns.Start()
	if !ns.ReadyForConnections(30 * time.Second) {
		s.Close()
		return nil, fmt.Errorf("embedded bus in %s: not ready after 30 s", o.Dir)
	}
	if !ns.JetStreamEnabled() {
		s.Close()
		return nil, fmt.Errorf("embedded bus in %s: the directory cannot be used", o.Dir)
	}
	return s, nil
}

// usable makes the directory and tries to write there: the server itself would only fall silent.
func usable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return err
	}
	_ = f.Close()
	return os.Remove(f.Name())
}

func maxStore(maxBytes int64) int64 {
	if maxBytes == 0 {
		return 1 << 50 // the disk is the bound
	}
	return maxBytes
}

// Close stops the server and returns once its files are closed.
func (s *Server) Close() {
	s.Shutdown()
	s.WaitForShutdown()
	s.remove()
}

func (s *Server) remove() {
	if s.temporary != "" {
		_ = os.RemoveAll(s.temporary)
	}
}
