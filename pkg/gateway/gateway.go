// Package gateway is the data plane: it runs a Plan.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/dispatch"
	"github.com/openfunction/events/pkg/gateway/ingress"
	"github.com/openfunction/events/pkg/gateway/trigger"
)

// Options are what a Gateway needs from outside.
type Options struct {
	// Listen is the address of the ingress, for example 127.0.0.1:8080; port 0 means any.
	Listen string
	// Dial makes every outgoing connection: to brokers, sources and sinks. Nil means a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// DataDir is where the embedded bus keeps its events; empty means a temporary directory that is removed at the end.
	DataDir string
	// Instance tells this process apart from others that run the same plan, and stays the same when it restarts.
	Instance string
	// Display receives what goes to a target without a URL. Nil refuses such targets.
	Display event.Handler
	// Observe, when set, is called after each delivery that was taken by the display, a topic or a dead letter. It must be quick and safe for concurrent use.
	Observe func(Delivered)
	// Grace bounds how long Run drains after its context is done; zero means 20 s.
	Grace time.Duration
}

// Delivered is one successful delivery.
type Delivered struct {
	// Trigger is ns/name, or empty when EventSource, the owner of a direct sink, is set.
	Trigger     string
	EventSource string
	// To is "sink ns/name", "topic NAME", "deadletter sink ns/name" or "deadletter topic NAME".
	To    string
	Event *event.Event
}

// Gateway runs one plan at a time. Its methods may be called from many goroutines at once.
type Gateway struct {
	o        Options
	log      *zap.SugaredLogger
	listener net.Listener
	ingress  *ingress.Ingress
	client   *dispatch.Client
	workers  trigger.Workers
	ballast  []byte

	// ctx carries the logger to every part; stop ends them all.
	ctx  context.Context
	stop context.CancelFunc

	// applying lets one Apply or the end of Run work at a time; it guards what follows.
	applying    sync.Mutex
	closed      bool
	buses       map[string]*openBus
	subscribers map[string]*part
	sources     map[string]*part

	health health
}

// ballast is memory that is never touched, and so never resident. What lives on the data plane's heap is small and short: without it the
// collector would run for every few megabytes of events, with it for every few times this much.
const ballast = 24 << 20

// New returns a Gateway that listens but runs nothing yet. It takes its logger from ctx, which does not end it: Run does.
func New(ctx context.Context, o Options) (*Gateway, error) {
	if o.Grace == 0 {
		o.Grace = 20 * time.Second
	}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	g := &Gateway{
		o: o, log: logging.FromContext(ctx), listener: listener, client: dispatch.NewClient(o.Dial),
		buses: map[string]*openBus{}, subscribers: map[string]*part{}, sources: map[string]*part{},
		ballast: make([]byte, ballast),
	}
	g.ctx, g.stop = context.WithCancel(context.WithoutCancel(ctx))
	g.ingress = ingress.New(ingress.Options{Ready: g.Ready})
	return g, nil
}

// Addr is the ingress's address, host:port.
func (g *Gateway) Addr() string { return g.listener.Addr().String() }

// Run serves until ctx is done, then drains: no new requests, events on their way into a bus finished, deliveries under way finished,
// buses flushed. What is not delivered by then stays on its bus. It may be called once.
func (g *Gateway) Run(ctx context.Context) error {
	ctx = logging.WithLogger(ctx, g.log)
	stopDrain := context.AfterFunc(ctx, g.ingress.Drain)
	defer stopDrain()
	// Sources may take as long to stop as requests that are inside: they stop at the same time.
	served := make(chan struct{})
	var sources sync.WaitGroup
	sources.Go(func() {
		select {
		case <-ctx.Done():
		case <-served:
		}
		g.stopSources()
	})
	err := ingress.Serve(ctx, g.listener, g.ingress.Handler(), g.o.Grace/2)
	close(served)
	g.ingress.Close()
	sources.Wait()
	g.applying.Lock()
	defer g.applying.Unlock()
	g.stopParts(g.subscribers)
	for _, b := range g.buses {
		err = errors.Join(err, b.close())
	}
	g.stop()
	g.workers.Close()
	g.client.Close()
	runtime.KeepAlive(g.ballast)
	return err
}

// stopSources stops the sources for good: no plan is applied any more.
func (g *Gateway) stopSources() {
	g.applying.Lock()
	defer g.applying.Unlock()
	g.closed = true
	g.stopParts(g.sources)
}

func (g *Gateway) stopParts(parts map[string]*part) {
	for _, p := range parts {
		p.cancel()
	}
	for _, p := range parts {
		<-p.done
	}
}
