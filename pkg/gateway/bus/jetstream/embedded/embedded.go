// Package embedded runs a JetStream server inside the process, alone or as a member of a cluster, for a bus that needs no broker.
package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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
	// Access says who is let in. Nil means who shows the Login, in the clear: then Host must be a loopback address.
	Access *Access
	Login  Login
	// Cluster makes the server a member of one. It needs a Name, a Host and Access. Nil means that it is alone.
	Cluster *Cluster
	// Recover says to start the server again, in this process and at the same address, when only that can help it. It is for one whose
	// process does other things too: otherwise who watches over the process looks at Alive.
	Recover bool
	// Troubled, when set, is called when the server takes no new events any more, with why (see Trouble), and with nil when it does again.
	Troubled func(err error)
	// Damaged, when set, is called when the server goes on without something that it had, with what that is.
	Damaged func(err error)
	// Log gets what the server says. Nil means nobody.
	Log *zap.SugaredLogger

	disk func(dir string) (free, all uint64, ok bool) // nil means disk
}

// Login is what clients have to show: a user name and a password, or a token. Empty means nothing.
type Login struct{ Username, Password, Token string }

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

// Server is a running JetStream server. It is a nats.InProcessConnProvider. Its methods may be called from many goroutines at once.
type Server struct {
	options   Options
	temporary string
	draining  atomic.Bool
	running   atomic.Pointer[server.Server] // nil while it starts again
	trouble   atomic.Pointer[trouble]
	failed    atomic.Pointer[string] // what failed first since it started, of which its health says nothing
	store     atomic.Pointer[os.FileInfo]

	// The guard's, and before it starts and when it has ended anybody's.
	noted   *contents // nil if it is not known
	notedAt time.Time
	ended   sync.Once

	stop    context.CancelFunc
	guarded chan struct{} // closed when the guard has ended
}

// TempDir makes a directory for events that are not kept.
func TempDir() (string, error) {
	dir, err := os.MkdirTemp("", "openfunction-events-")
	if err != nil {
		return "", fmt.Errorf("no temporary directory: set TMPDIR to a directory that can be written, or keep events with --data DIR: %w", err)
	}
	return dir, nil
}

// Start returns a server that is ready for connections. A member of a cluster may not be Ready yet.
func Start(o Options) (*Server, error) {
	s := &Server{}
	if o.Dir == "" {
		dir, err := TempDir()
		if err != nil {
			return nil, fmt.Errorf("embedded bus: %w", err)
		}
		o.Dir, s.temporary = dir, dir
	}
	if o.Log == nil {
		o.Log = zap.NewNop().Sugar()
	}
	if o.disk == nil {
		o.disk = disk
	}
	s.options = o
	ns, err := s.start()
	if err != nil {
		s.remove()
		return nil, fmt.Errorf("embedded bus in %s: %w", o.Dir, withCure(err))
	}
	s.running.Store(ns)
	s.look()
	ctx, stop := context.WithCancel(context.Background())
	s.stop, s.guarded = stop, make(chan struct{})
	go func() {
		defer close(s.guarded)
		(&guard{Server: s}).run(ctx)
	}()
	return s, nil
}

// withCure adds to the error of a start what to do about a full disk.
func withCure(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: make room on its disk; nothing that it has is lost", err)
	}
	return err
}

// start returns a server that is ready for connections and has all that it has stored.
func (s *Server) start() (*server.Server, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	settings, err := s.options.settings(s.options.Access)
	if err != nil {
		return nil, err
	}
	if err := s.inspect(); err != nil {
		return nil, err
	}
	ns, err := server.NewServer(settings)
	if err != nil {
		return nil, err
	}
	s.failed.Store(nil)
	ns.SetLoggerV2(logger{s.options.Log, func(text string) { s.failed.CompareAndSwap(nil, &text) }, s.options.Cluster == nil}, false, false, false)
	ns.Start()
	switch {
	case !ns.ReadyForConnections(30 * time.Second):
		err = errors.New("not ready after 30 s")
	case !ns.JetStreamEnabled():
		err = errors.New("the directory cannot be used")
	case s.failed.Load() != nil:
		err = fmt.Errorf("%s: if that cannot be cured, restore %s from a copy, or delete it to begin anew", *s.failed.Load(), s.options.Dir)
	default:
		if a, ok := ns.Addr().(*net.TCPAddr); ok {
			s.options.Port = a.Port
		}
		if store, err := os.Stat(filepath.Join(s.options.Dir, server.JetStreamStoreDir)); err == nil {
			s.store.Store(&store)
		}
		s.compare(ns)
		return ns, nil
	}
	end(ns)
	return nil, err
}

func end(ns *server.Server) {
	ns.Shutdown()
	ns.WaitForShutdown()
}

// settings are those of the server, with the access in place of the options' own.
func (o *Options) settings(access *Access) (*server.Options, error) {
	settings := &server.Options{
		ServerName: cmp.Or(o.Name, "embedded"), DontListen: o.Host == "", Host: o.Host, Port: o.Port,
		JetStream: true, StoreDir: o.Dir, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: maxStore(o.MaxBytes),
		SyncInterval: o.SyncInterval, SyncAlways: o.SyncInterval == 0,
		LameDuckGracePeriod: drainGrace, LameDuckDuration: drainTime,
		MaxPayload: MaxPayload, NoLog: true, NoSigs: true,
		Username: o.Login.Username, Password: o.Login.Password, Authorization: o.Login.Token,
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
	ns, err := s.now()
	if err == nil {
		err = ns.ReloadOptions(settings)
	}
	if err != nil {
		return fmt.Errorf("embedded bus: change the access: %w", err)
	}
	return nil
}

// ClientURL is where clients connect. Only a server with a Host has one.
func (s *Server) ClientURL() string {
	ns, err := s.now()
	if err != nil {
		return ""
	}
	return ns.ClientURL()
}

// InProcessConn implements nats.InProcessConnProvider.
func (s *Server) InProcessConn() (net.Conn, error) {
	ns, err := s.now()
	if err != nil {
		return nil, err
	}
	return ns.InProcessConn()
}

// now returns the server that runs.
func (s *Server) now() (*server.Server, error) {
	if ns := s.running.Load(); ns != nil {
		return ns, nil
	}
	if err := s.Trouble(); err != nil {
		return nil, fmt.Errorf("starting again: %w", err)
	}
	return nil, errors.New("starting again")
}

// Ready returns nil when the server can be used: JetStream runs, can write and, in a cluster, has a leader whom this member has caught up
// with. One whose disk has no room for another event is ready: whoever receives events makes room.
func (s *Server) Ready() error {
	if s.draining.Load() {
		return errors.New("shutting down")
	}
	ns, err := s.now()
	if err == nil {
		err = s.Alive()
	}
	if err != nil {
		return err
	}
	return healthOf(ns)
}

// Alive returns why only a new start can help the server, if so: it has ended, has given up its disk, or could not write what it had to.
func (s *Server) Alive() error {
	ns := s.running.Load()
	if s.draining.Load() || ns == nil {
		return nil
	}
	if !ns.Running() {
		return errors.New("the server has ended")
	}
	if !ns.JetStreamEnabled() {
		return server.NewJSNotEnabledError()
	}
	if err := s.gone(); err != nil {
		return err
	}
	if text := s.failed.Load(); text != nil {
		return errors.New(*text)
	}
	return writeError(ns)
}

// writeError returns the error of a write after which the server writes no more until it starts again. Whatever else a server may say of
// its health passes, and in a cluster a new start would make it worse: members that have no leader, or have to catch up.
func writeError(ns *server.Server) error {
	for _, e := range ns.Healthz(&server.HealthzOptions{Details: true}).Errors {
		if strings.Contains(e.Error, "write error: ") {
			return errors.New(e.Error)
		}
	}
	return nil
}

// healthOf asks a server that has started more than once if need be: it gives itself a millisecond to look, and on a busy machine that passes before
// it does.
func healthOf(ns *server.Server) (err error) {
	for range 3 {
		h := ns.Healthz(&server.HealthzOptions{})
		if h.Error == "" {
			return nil
		}
		err = errors.New(h.Error)
		if !strings.HasPrefix(h.Error, "failed to be ready for connections") {
			return err
		}
	}
	return err
}

// Drain hands over to the other members, sends clients away and closes the server. It takes a few seconds, but for a server that is alone:
// its clients have nowhere to go, so the sooner it ends the sooner the next one is there.
func (s *Server) Drain() {
	s.draining.Store(true)
	if ns := s.running.Load(); ns != nil && s.options.Cluster != nil {
		ns.LameDuckShutdown()
	}
	s.Close()
}

func maxStore(maxBytes int64) int64 {
	if maxBytes == 0 {
		return 1 << 50 // the disk is the bound
	}
	return maxBytes
}

// Close stops the server and returns once its files are closed.
func (s *Server) Close() {
	s.stop()
	<-s.guarded
	s.ended.Do(func() {
		defer s.remove()
		if ns := s.running.Load(); ns != nil {
			before := s.settled()
			left := cmp.Or(has(ns, nil), s.noted)
			end(ns)
			s.leave(left, before)
		}
	})
}

func (s *Server) remove() {
	if s.temporary != "" {
		_ = os.RemoveAll(s.temporary)
	}
}
