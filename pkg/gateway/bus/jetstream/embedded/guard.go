package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// lookEvery is how often the room on the disk is looked at, and checkEvery how often the server is: that reads directories.
	lookEvery  = 100 * time.Millisecond
	checkEvery = time.Second

	// keepFree is the room, or keepFreePart that of a small disk, which new events do not get. After a write that fails a server writes
	// nothing until it starts again, not even what would make room. So this is for what it writes of its own, and for the events that come
	// between two looks.
	keepFree     = 64 << 20
	keepFreePart = 16

	// probeFiles of probeBytes each can be written on a disk that a server is started on, or that is trusted again; reserveBytes is what is
	// kept for the start on one that is full.
	probeFiles   = 8
	probeBytes   = 32 << 10
	reserveBytes = 1 << 20

	// minPause and maxPause bound the time between two starts.
	minPause = time.Second
	maxPause = 30 * time.Second
)

// trouble is why the server takes no new events. What it has it delivers all the same, if it can.
type trouble struct {
	error
	// broken tells that the server has given up its disk; otherwise there is no room on it, for now.
	broken bool
}

// Trouble returns why the server takes no new events, or nil when it does. The error is syscall.ENOSPC if there is no room for them.
func (s *Server) Trouble() error {
	if t := s.trouble.Load(); t != nil {
		return t.error
	}
	return nil
}

// guard looks after the disk of a server.
type guard struct {
	*Server
	next  time.Time // when it may be started again
	pause time.Duration
}

func (g *guard) run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var checked time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		g.look()
		if time.Since(checked) >= checkEvery {
			g.check()
			checked = time.Now()
		}
	}
}

// look finds out whether there is room.
func (s *Server) look() {
	was := s.trouble.Load()
	if was != nil && was.broken {
		return
	}
	if err := s.gone(); err != nil {
		s.set(s.broken(err))
		return
	}
	var now *trouble
	if err := s.room(was != nil); err != nil {
		now = &trouble{error: err}
	}
	s.set(now)
}

// room returns an error when there is no room for new events. When there was none, it takes a quarter more until there is again.
func (s *Server) room(was bool) error {
	free, all, ok := s.options.disk(s.options.Dir)
	keep := min(keepFree, all/keepFreePart)
	if was {
		keep += keep / 4
	}
	if !ok || free >= keep {
		return nil
	}
	return s.full(fmt.Errorf("%d KiB are free, and the bus needs %d KiB to work: %w", free>>10, keep>>10, syscall.ENOSPC))
}

// check finds out whether the server has given up its disk, and whether a disk that it has given up can be written again.
func (g *guard) check() {
	was := g.trouble.Load()
	err := g.Alive()
	switch {
	case err != nil:
		g.set(g.broken(err))
	case g.running.Load() == nil:
	case was != nil && !was.broken:
		g.stepDown()
		return
	case was == nil:
		g.reserve()
		g.take(g.running.Load())
		return
	case was.broken && errors.Join(g.room(true), g.probe()) == nil:
		g.set(nil)
		return
	default:
		return
	}
	if g.options.Recover && !errors.Is(err, ErrRemoved) {
		g.startAgain()
	}
}

func (s *Server) broken(err error) *trouble {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return &trouble{error: s.full(err), broken: true}
	case strings.Contains(err.Error(), syscall.ENOSPC.Error()):
		return &trouble{error: s.full(fmt.Errorf("%w: %w", syscall.ENOSPC, err)), broken: true}
	}
	return &trouble{error: fmt.Errorf("%s: %w", s.options.Dir, err), broken: true}
}

func (s *Server) full(err error) error {
	return fmt.Errorf("the disk of %s is full, make room there: %w", s.options.Dir, err)
}

// set makes t the trouble of the server. In trouble it refuses at once what is published; without that its answer would be silence.
func (s *Server) set(t *trouble) {
	was := s.trouble.Swap(t)
	if s.options.Troubled != nil && (t == nil) != (was == nil) {
		s.options.Troubled(s.Trouble())
	}
	ns := s.running.Load()
	if t == nil && was == nil || ns == nil {
		return
	}
	// A broken member of a cluster hands over to the others by itself.
	if t != nil && t.broken && s.options.Cluster != nil {
		return
	}
	refuse(ns, t != nil)
}

func refuse(ns *server.Server, all bool) {
	var limits map[string]server.JetStreamAccountLimits // none
	if all {
		limits = map[string]server.JetStreamAccountLimits{"": {
			MaxMemory: -1, MaxStore: 0, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
		}}
	}
	_ = ns.GlobalAccount().UpdateJetStreamLimits(limits) // a server that is not up yet, or no more, takes nothing anyway; the next look tries again
}

// stepDown has the other members of the cluster, which may have room, lead the streams that this one leads: a leader without room refuses what is
// published.
func (s *Server) stepDown() {
	ns := s.running.Load()
	if s.options.Cluster == nil {
		return
	}
	info, err := ns.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return
	}
	for _, account := range info.AccountDetails {
		for _, stream := range account.Streams {
			if ns.JetStreamIsStreamLeader(account.Name, stream.Name) {
				_ = ns.JetStreamStepdownStream(account.Name, stream.Name) // the next look tries again
			}
		}
	}
}

// startAgain ends the server and starts another one on what it has stored, once the disk can be written: until then the one that is there
// delivers what it can. Nothing that was acknowledged is lost by that: the write that failed never was.
func (g *guard) startAgain() {
	if time.Now().Before(g.next) {
		return
	}
	if err := g.usable(); err != nil {
		g.set(g.broken(err))
		return
	}
	if g.pause = min(2*g.pause, maxPause); time.Since(g.next) > 2*maxPause {
		g.pause = minPause
	}
	if ns := g.running.Swap(nil); ns != nil {
		end(ns)
	}
	ns, err := g.start()
	g.next = time.Now().Add(g.pause)
	if err != nil {
		g.set(g.broken(err))
		return
	}
	refuse(ns, true)
	g.running.Store(ns)
}

// usable makes the directory and tries to write there, if need be in the room of the reserve. No server may start where that fails: one that
// cannot write while it reads what it has stored ends the process, or goes on without a stream or a subscription.
func (s *Server) usable() error {
	if err := os.MkdirAll(s.options.Dir, 0o700); err != nil {
		return err
	}
	err := s.probe()
	if err == nil || os.Remove(s.reserved()) != nil {
		return err
	}
	return s.probe()
}

// probe writes in the directory and removes that again.
func (s *Server) probe() (err error) {
	dir, err := os.MkdirTemp(s.options.Dir, ".probe-")
	if err != nil {
		return err
	}
	for i := 0; i < probeFiles && err == nil; i++ {
		err = os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), make([]byte, probeBytes), 0o600)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// reserved is a file that is there for its size only.
func (s *Server) reserved() string { return filepath.Join(s.options.Dir, "reserve") }

// reserve makes the reserve, if there is none. Whether that works is no matter now: the next look tries again.
func (s *Server) reserve() {
	if _, err := os.Lstat(s.reserved()); err != nil && s.room(true) == nil {
		_ = os.WriteFile(s.reserved(), make([]byte, reserveBytes), 0o600)
	}
}
