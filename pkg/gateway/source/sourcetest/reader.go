package sourcetest

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
)

// reader is a process that runs, and the events that it took.
type reader struct {
	h       *harness
	network *network
	cancel  context.CancelFunc
	ended   chan struct{}
	err     error // valid once ended is closed
	logs    *observer.ObservedLogs

	mu     sync.Mutex
	taken  []*event.Event
	asked  bool
	ready  error
	reason []error // all that ready was called with
}

// read runs a process and waits until it is ready. Each event goes to next, and counts as taken when that returns nil; nil takes all.
func (h *harness) read(p Process, next func(ctx context.Context, e *event.Event) error) *reader {
	h.Helper()
	r := h.start(p, next)
	h.eventually("the source is ready", r.isReady)
	return r
}

// start is read that does not wait.
func (h *harness) start(p Process, next func(ctx context.Context, e *event.Event) error) *reader {
	h.Helper()
	core, logs := observer.New(zap.InfoLevel)
	ctx, cancel := context.WithCancel(logging.WithLogger(context.Background(), zap.New(core).Sugar()))
	r := &reader{h: h, logs: logs, cancel: cancel, ended: make(chan struct{}), network: &network{dial: p.Dial, conns: map[net.Conn]bool{}}}
	p.Dial = r.network.connect
	s := h.f.New(h.T, p)
	go func() {
		defer close(r.ended)
		r.err = s.Run(ctx, event.HandlerFunc(func(ctx context.Context, e *event.Event) error { return r.handle(ctx, e, next) }), r.report)
	}()
	h.Cleanup(func() {
		cancel()
		<-r.ended // the next case may count goroutines
	})
	return r
}

func (r *reader) handle(ctx context.Context, e *event.Event, next func(context.Context, *event.Event) error) error {
	if next != nil {
		if err := next(ctx, e); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken = append(r.taken, e)
	return nil
}

func (r *reader) report(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked, r.ready, r.reason = true, err, append(r.reason, err)
}

func (r *reader) isReady() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked && r.ready == nil
}

// problem is what ready was called with last.
func (r *reader) problem() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ready
}

// reports returns all that ready was called with.
func (r *reader) reports() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.reason)
}

// stop ends the source as the end of a process does that was asked to.
func (r *reader) stop() {
	r.h.Helper()
	r.cancel()
	r.waitEnd()
}

func (r *reader) waitEnd() {
	r.h.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.h.Fatalf("Run has not returned %s after its context was done", patience)
	}
	if r.err != nil {
		r.h.Fatalf("Run() = %v, want nil", r.err)
	}
}

// kill ends the source as kill -9 does, as far as the server can tell: from now on nothing is heard of it.
func (r *reader) kill() {
	r.network.cut()
	r.cancel()
}

func (r *reader) events() []*event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.taken)
}

// data returns the data of what was taken, in that order.
func (r *reader) data() []string {
	var all []string
	for _, e := range r.events() {
		all = append(all, string(e.Data()))
	}
	return all
}

// await waits until each of data was taken by one of the readers.
func (h *harness) await(data []string, readers ...*reader) {
	h.Helper()
	var lost []string
	defer func() {
		if h.Failed() {
			h.Logf("%d of %d are missing, the first of them %q", len(lost), len(data), lost[:min(len(lost), 5)])
		}
	}()
	h.eventually("every message is taken", func() bool {
		taken := map[string]bool{}
		for _, r := range readers {
			for _, d := range r.data() {
				taken[d] = true
			}
		}
		lost = nil
		for _, d := range data {
			if !taken[d] {
				lost = append(lost, d)
			}
		}
		return len(lost) == 0
	})
}

// network makes the connections of one process, and can fail.
type network struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	dead  bool
	conns map[net.Conn]bool
}

func (n *network) connect(ctx context.Context, network, address string) (net.Conn, error) {
	if n.isDead() {
		return nil, net.ErrClosed
	}
	c, err := n.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	n.conns[c] = true
	return c, nil
}

func (n *network) isDead() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dead
}

// cut ends all connections without a word, and there will be no others.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead = true
	for c := range n.conns {
		_ = c.Close()
	}
}
