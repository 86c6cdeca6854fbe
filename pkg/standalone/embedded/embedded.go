// Package embedded starts in-process brokers that stand for the ones a plan names but this machine does not reach.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	jetstream "github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
)

const (
	// dialTimeout is how long a broker may take to accept a connection before an in-process one stands for it.
	dialTimeout = 300 * time.Millisecond
	// maxMessageBytes bounds a message on every server; the usual 1 MiB is less than an event may have here.
	maxMessageBytes = 8 << 20
)

// Server is one in-process broker.
type Server struct {
	// Kind is kafka, natsStreaming, jetStream, redis or mqtt.
	Kind string
	// For are the addresses it stands for, host:port, as the plan names them.
	For []string
	// Address is where it listens, host:port on the loopback interface.
	Address string
}

// String is the line that tells a person about the server.
func (s Server) String() string {
	return fmt.Sprintf("embedded %s stands for %s at %s", s.Kind, strings.Join(s.For, ", "), s.Address)
}

// Options are what Servers need from outside.
type Options struct {
	// Dir is where servers keep their data; empty means in memory, or in a folder that Close removes. Redis and MQTT are in memory always.
	Dir string
	// Troubled, when set, is called when the server that name stands for takes no new events any more, with why, and with nil when it does again.
	// Only JetStream knows.
	Troubled func(name string, err error)
	// Damaged, when set, is called when that server goes on without something that it had, with what that is.
	Damaged func(name string, err error)
	// Dial tells whether an address is served; nil means a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Servers are the in-process brokers of one run. Address may be called from many goroutines at once, also while Add works.
type Servers struct {
	dir     string
	trouble func(name string, err error)
	damage  func(name string, err error)
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	tempDir string

	mu      sync.RWMutex
	running []*running
	byName  map[string]*running
}

type running struct {
	Server
	identity string
	stop     func() error
}

// New returns Servers without a server.
func New(o Options) *Servers {
	if o.Troubled == nil {
		o.Troubled = func(string, error) {}
	}
	if o.Damaged == nil {
		o.Damaged = func(string, error) {}
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	return &Servers{dir: o.Dir, trouble: o.Troubled, damage: o.Damaged, dial: o.Dial, byName: map[string]*running{}}
}

// Address returns where the server listens that stands for address, if there is one.
func (s *Servers) Address(address string) (string, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.byName[Normal(address)]
	if !ok {
		return "", false
	}
	return r.Address, true
}

// Add starts a server for each need that nothing serves yet, and returns those that it started. Needs that share an address share a
// server. When one does not start, those that did keep running until Close. Only one goroutine may call it.
func (s *Servers) Add(ctx context.Context, needs []Need) ([]Server, error) {
	needs = slices.DeleteFunc(slices.Clone(needs), func(n Need) bool { return n.Elsewhere })
	missing, err := s.missing(ctx, merge(needs))
	if err != nil {
		return nil, err
	}
	var started []Server
	for _, n := range missing {
		r, err := s.start(n)
		if err != nil {
			return started, fmt.Errorf("start an embedded %s for %s: %w", n.Kind, strings.Join(n.Addresses, ", "), err)
		}
		s.mu.Lock()
		s.running = append(s.running, r)
		for _, a := range r.For {
			s.byName[a] = r
		}
		s.mu.Unlock()
		started = append(started, r.Server)
	}
	return started, nil
}

// missing returns the needs that neither one of our servers nor anything on the network meets.
func (s *Servers) missing(ctx context.Context, needs []wanted) ([]Need, error) {
	served := make([]bool, len(needs))
	var dials errgroup.Group
	dials.SetLimit(8)
	for i, n := range needs {
		ours, err := s.alias(n.Need)
		if err != nil {
			return nil, err
		}
		if ours {
			served[i] = true
			continue
		}
		dials.Go(func() error {
			served[i] = s.anyAnswers(ctx, n.Addresses)
			return nil
		})
	}
	_ = dials.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var missing []Need
	for i, n := range needs {
		if served[i] {
			continue
		}
		if n.conflict != nil {
			return nil, n.conflict
		}
		missing = append(missing, n.Need)
	}
	return missing, nil
}

// alias tells whether a server of ours stands for an address of n already, and makes it stand for the others too.
func (s *Servers) alias(n Need) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range n.Addresses {
		r, ok := s.byName[a]
		if !ok {
			continue
		}
		if r.Kind != n.Kind || r.identity != n.identity() {
			return false, fmt.Errorf("embedded %s at %s: already stands for %s with other settings; a restart is needed", n.Kind, a, r.Kind)
		}
		for _, other := range n.Addresses {
			s.byName[other] = r
		}
		return true, nil
	}
	return false, nil
}

func (s *Servers) anyAnswers(ctx context.Context, addresses []string) bool {
	for _, a := range addresses {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		conn, err := s.dial(ctx, "tcp", a)
		cancel()
		if err == nil {
			_ = conn.Close()
			return true
		}
	}
	return false
}

func (s *Servers) start(n Need) (*running, error) {
	switch n.Kind {
	case Kafka:
		return startKafka(n, s.keepIn(n))
	case NATSStreaming:
		return startNATSStreaming(n, s.keepIn(n))
	case JetStream:
		dir, err := s.keepOrTemp(n)
		if err != nil {
			return nil, err
		}
		return s.startJetStream(n, dir)
	case Redis:
		return startRedis(n)
	case MQTT:
		return startMQTT(n)
	}
	return nil, fmt.Errorf("kind %q: want %s, %s, %s, %s or %s", n.Kind, Kafka, NATSStreaming, JetStream, Redis, MQTT)
}

// keepIn is the folder for the data of n, or empty when nothing is kept.
func (s *Servers) keepIn(n Need) string {
	if s.dir == "" {
		return ""
	}
	name := strings.NewReplacer(":", "_", "/", "_", "[", "", "]", "").Replace(n.Addresses[0])
	return filepath.Join(s.dir, "servers", n.Kind+"-"+name)
}

func (s *Servers) keepOrTemp(n Need) (string, error) {
	if dir := s.keepIn(n); dir != "" {
		return dir, nil
	}
	if s.tempDir == "" {
		dir, err := jetstream.TempDir()
		if err != nil {
			return "", err
		}
		s.tempDir = dir
	}
	return os.MkdirTemp(s.tempDir, n.Kind+"-")
}

// Close stops the servers, the last one first, and removes what was temporary. Calling it twice is safe.
func (s *Servers) Close() error {
	s.mu.Lock()
	stopping := s.running
	s.running, s.byName = nil, map[string]*running{}
	s.mu.Unlock()
	var errs []error
	for i := len(stopping) - 1; i >= 0; i-- {
		if err := stopping[i].stop(); err != nil {
			errs = append(errs, fmt.Errorf("stop embedded %s at %s: %w", stopping[i].Kind, stopping[i].Address, err))
		}
	}
	if s.tempDir != "" {
		errs = append(errs, os.RemoveAll(s.tempDir))
		s.tempDir = ""
	}
	return errors.Join(errs...)
}
