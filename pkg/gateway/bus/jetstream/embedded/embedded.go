// Package embedded runs a JetStream server inside the process, alone or as a member of a cluster, for a bus that needs no broker.
package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// MaxPayload is the largest message in bytes that the server takes.
const MaxPayload = 8 << 20

const (
	// drainGrace is how long clients are left after the server's streams have other leaders, and drainTime how long it may take until all
	// are sent elsewhere.
	drainGrace = time.Second
	drainTime  = 5 * time.Second
)

// Options are what a Server needs.
type Options struct {
	// Dir keeps the events; empty means a temporary directory that Close removes.
	Dir string
	// SyncInterval is how often data is forced to disk; zero means before every acknowledgement.
	SyncInterval time.Duration
	// MaxBytes bounds what is kept on disk; zero means no bound.
	MaxBytes int64
	// Host and Port are an address to serve as well; without a Host it is in process only. Port 0 is any.
	Host string
	Port int
	// Name of the server, which no other member of its cluster has. Empty means "embedded".
	Name string
	// Access says who is let in. Nil means everybody, in the clear: then Host must be a loopback address.
	Access *Access
	// Cluster makes the server a member of one. It needs a Name, a Host and Access. Nil means that it is alone.
	Cluster *Cluster
	// Log gets what the server says. Nil means nobody.
	Log *zap.SugaredLogger
}

// Cluster is what a member knows of its cluster.
type Cluster struct {
	// Name of the cluster.
	Name string
	// Host and Port are the address for the other members.
	Host string
	Port int
	// Members are host:port of all members; this one may be among them.
	Members []string
}

// Server is a running JetStream server. It is a nats.InProcessConnProvider.
type Server struct {
	*server.Server
	options   Options
	temporary string
	draining  atomic.Bool
}

// Start returns a server that is ready for connections. A member of a cluster may not be Ready yet.
func Start(o Options) (*Server, error) {
	s := &Server{}
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "openfunction-events-")
		if err != nil {
			return nil, fmt.Errorf("embedded bus: %w", err)
		}
		o.Dir, s.temporary = dir, dir
	}
	s.options = o
	if err := usable(o.Dir); err != nil {
		s.remove()
		return nil, fmt.Errorf("embedded bus: %w", err)
	}
	settings, err := o.settings(o.Access)
	if err != nil {
		s.remove()
		return nil, fmt.Errorf("embedded bus in %s: %w", o.Dir, err)
	}
	ns, err := server.NewServer(settings)
	if err != nil {
		s.remove()
		return nil, fmt.Errorf("embedded bus in %s: %w", o.Dir, err)
	}
	s.Server = ns
	if o.Log != nil {
		ns.SetLoggerV2(logger{o.Log}, false, false, false)
	}
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

// settings are those of the server, with the access in place of the options' own.
func (o *Options) settings(access *Access) (*server.Options, error) {
	settings := &server.Options{
		ServerName: cmp.Or(o.Name, "embedded"), DontListen: o.Host == "", Host: o.Host, Port: o.Port,
		JetStream: true, StoreDir: o.Dir, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: maxStore(o.MaxBytes),
		SyncInterval: o.SyncInterval, SyncAlways: o.SyncInterval == 0,
		LameDuckGracePeriod: drainGrace, LameDuckDuration: drainTime,
		MaxPayload: MaxPayload, NoLog: true, NoSigs: true,
	}
	if settings.Host != "" && settings.Port == 0 {
		settings.Port = server.RANDOM_PORT
	}
	if access != nil {
		if err := access.apply(settings); err != nil {
			return nil, err
		}
	}
	if o.Cluster != nil {
		if err := o.Cluster.apply(settings, access); err != nil {
			return nil, err
		}
	}
	return settings, nil
}

// apply makes the server of settings a member. Members let each other in by their certificates.
func (c *Cluster) apply(settings *server.Options, access *Access) error {
	if access == nil {
		return errors.New("a member of a cluster needs a certificate")
	}
	tls, err := access.mutual()
	if err != nil {
		return err
	}
	settings.Cluster = server.ClusterOpts{
		Name: c.Name, Host: c.Host, Port: c.Port, TLSConfig: tls, TLSTimeout: tlsTimeout,
		// Clients and members know the others by their names, which last; addresses do not, and no certificate is for them.
		NoAdvertise: true,
	}
	for _, member := range c.Members {
		settings.Routes = append(settings.Routes, &url.URL{Scheme: "tls", Host: member})
	}
	return nil
}

// SetAccess changes who is let in, from the next connection on. Clients with another password are sent away.
func (s *Server) SetAccess(access Access) error {
	settings, err := s.options.settings(&access)
	if err != nil {
		return fmt.Errorf("embedded bus: %w", err)
	}
	if err := s.ReloadOptions(settings); err != nil {
		return fmt.Errorf("embedded bus: change the access: %w", err)
	}
	return nil
}

// Ready returns nil when the server can be used: JetStream runs and, in a cluster, has a leader whom this member has caught up with.
func (s *Server) Ready() error {
	if s.draining.Load() {
		return errors.New("shutting down")
	}
	return health(s.Healthz(&server.HealthzOptions{}))
}

// Alive returns why only a new start can help the server, if so: it has ended, or has given up its disk.
func (s *Server) Alive() error {
	if s.draining.Load() {
		return nil
	}
	if !s.Running() {
		return errors.New("the server has ended")
	}
	return health(s.Healthz(&server.HealthzOptions{JSEnabledOnly: true}))
}

func health(h *server.HealthStatus) error {
	if h.Error == "" {
		return nil
	}
	return errors.New(h.Error)
}

// Drain hands over to the other members, sends clients away and closes the server. It takes a few seconds, but for a server that is alone:
// its clients have nowhere to go, so the sooner it ends the sooner the next one is there.
func (s *Server) Drain() {
	s.draining.Store(true)
	if s.options.Cluster != nil {
		s.LameDuckShutdown()
	}
	s.Close()
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
