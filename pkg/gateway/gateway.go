// Package gateway is the data plane: it runs a Plan.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/dispatch"
	"github.com/openfunction/events/pkg/gateway/ingress"
	"github.com/openfunction/events/pkg/gateway/metrics"
	"github.com/openfunction/events/pkg/gateway/room"
	"github.com/openfunction/events/pkg/gateway/trigger"
)

// Options are what a Gateway needs from outside.
type Options struct {
	// Listen is the address of the ingress, for example 127.0.0.1:8080; port 0 means any. Empty means that there is none.
	Listen string
	// Admin is the address where /healthz, /readyz and plan.ReportPath are served as long as Run does; empty means nowhere.
	Admin string
	// Metrics is the address where /metrics is served as long as Run does; empty means nowhere.
	Metrics string
	// Serving says to be ready once a plan was applied, whatever its brokers do: routes answer for themselves. Otherwise all parts of the
	// plan must be ready.
	Serving bool
	// Besides, when set, says what else is not ready, one per line, to who asks /readyz; nil is nothing.
	Besides func() error
	// Lenient makes Apply run what it can of a plan with mistakes, for a plan of many owners: whoever made none is served. Otherwise such a
	// plan changes nothing.
	Lenient bool
	// Dial makes every outgoing connection: to brokers, sources and sinks. Nil means a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Embedded starts the server of the embedded bus with that name, which keeps its events in dir, or in a temporary directory if that is empty,
	// and forces them to disk that often. Nil refuses such buses: who needs none does not link a server that is large and wakes up every second.
	Embedded func(name, dir string, sync time.Duration) (Server, error)
	// DataDir is where the embedded bus keeps its events; empty means a temporary directory that is removed at the end.
	DataDir string
	// Gone, when set, is called at the end if events of embedded buses go with the temporary directory: how many were not delivered, and
	// how many dead letters there were.
	Gone func(events, letters uint64)
	// Instance tells this process apart from others that run the same plan, and stays the same when it restarts.
	Instance string
	// Display receives what goes to a target without a URL. Nil refuses such targets.
	Display event.Handler
	// Observe, when set, is called after each delivery that was taken by the display, a topic or a dead letter. It must be quick and safe for concurrent use.
	Observe func(Delivered)
	// Grace bounds how long Run drains after its context is done; zero means 20 s.
	Grace time.Duration
	// Lag is how long the ingress goes on as usual after Run's context is done, for callers who do not know yet. It is not part of Grace.
	Lag time.Duration
	// AtEnd, when set, is asked when all parts have stopped, for at most 10 s: true means that nobody comes back for the durable
	// subscriptions of the plan, and so they are removed from their buses.
	AtEnd func(ctx context.Context) bool
}

// Server is that of an embedded bus. Close ends it.
type Server interface {
	nats.InProcessConnProvider
	// Trouble is why the server takes no events, nil if it does.
	Trouble() error
	Close()
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
	listener net.Listener // nil without an ingress
	admin    net.Listener // nil if there is none
	scraped  net.Listener // for metrics; nil if there is none
	metrics  *metrics.Metrics
	ingress  *ingress.Ingress
	client   *dispatch.Client
	workers  trigger.Workers
	room     *room.Room // for what subscribers hold
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
	routes      map[string]route
	retired     map[string]*retirement

	applied  atomic.Pointer[applied] // nil before the first plan
	failure  atomic.Pointer[string]  // why the latest plan is not applied
	draining atomic.Bool
	health   health
}

// ballast is memory that is never touched, and so never resident. What lives on the data plane's heap is small and short: without it the
// collector would run for every few megabytes of events, with it for every few times this much.
const ballast = 24 << 20

// Of the process's memory, so much is for the events that subscribers hold, and so much for the bodies of posts. Both are for a moment there
// twice, as an event and as what it was parsed from or is sent as.
const (
	subscribersMemory = 0.25
	postsMemory       = 0.15
)

// New returns a Gateway that listens but runs nothing yet. It takes its logger from ctx, which does not end it: Run does.
func New(ctx context.Context, o Options) (*Gateway, error) {
	if o.Grace == 0 {
		o.Grace = 20 * time.Second
	}
	g := &Gateway{
		o: o, log: logging.FromContext(ctx), client: dispatch.NewClient(o.Dial), ballast: make([]byte, ballast),
		room: room.New(room.Memory(subscribersMemory)),
	}
	g.metrics = metrics.New(g.well)
	if err := g.listen(); err != nil {
		return nil, err
	}
	g.ctx, g.stop = context.WithCancel(context.WithoutCancel(ctx))
	g.ingress = ingress.New(ingress.Options{Ready: g.ready, Dial: o.Dial, MaxBytes: room.Memory(postsMemory)})
	return g, nil
}

// listen opens all listeners, or none.
func (g *Gateway) listen() error {
	listeners := []struct {
		to            *net.Listener
		what, address string
	}{{&g.listener, "ingress", g.o.Listen}, {&g.admin, "admin", g.o.Admin}, {&g.scraped, "metrics", g.o.Metrics}}
	for i, l := range listeners {
		if l.address == "" {
			continue
		}
		var err error
		if *l.to, err = net.Listen("tcp", l.address); err == nil {
			continue
		}
		*l.to = nil
		for _, open := range listeners[:i] {
			if *open.to != nil {
				_ = (*open.to).Close()
			}
		}
		return fmt.Errorf("%s: %w", l.what, err)
	}
	return nil
}

// Addr is the ingress's address, host:port, or empty if there is none.
func (g *Gateway) Addr() string { return address(g.listener) }

// AdminAddr is the address of the probes and the report, host:port, or empty if there is none.
func (g *Gateway) AdminAddr() string { return address(g.admin) }

// MetricsAddr is the address of the metrics, host:port, or empty if there is none.
func (g *Gateway) MetricsAddr() string { return address(g.scraped) }

func address(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// Run serves until ctx is done, then drains: after the lag no new requests, events on their way into a bus finished, deliveries under way
// finished, buses flushed. What is not delivered by then stays on its bus. It may be called once.
func (g *Gateway) Run(ctx context.Context) error {
	ctx, end := context.WithCancel(logging.WithLogger(ctx, g.log))
	defer end()
	defer context.AfterFunc(ctx, func() {
		g.draining.Store(true)
		g.ingress.Drain()
	})()
	// The probes, the report and the metrics are there to the very end, which this context is.
	ended, stopAdmin := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAdmin()
	var admin, sources errgroup.Group
	admin.Go(func() error {
		defer end()
		return serve(ended, g.admin, g.adminHandler(), time.Second)
	})
	admin.Go(func() error {
		defer end()
		return serve(ended, g.scraped, g.metricsHandler(), time.Second)
	})
	// Sources may take as long to stop as requests that are inside: they stop at the same time.
	sources.Go(func() error {
		<-ctx.Done()
		g.stopSources()
		return nil
	})
	err := g.serveIngress(ctx)
	end()
	g.ingress.Close()
	_ = sources.Wait() // stopping has no error
	err = errors.Join(err, g.close(ended))
	stopAdmin()
	return errors.Join(err, admin.Wait())
}

// serveIngress serves requests until the lag after the end of ctx is over, and those that are inside then.
func (g *Gateway) serveIngress(ctx context.Context) error {
	lagged, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(g.o.Lag, stop) })()
	return serve(lagged, g.listener, g.ingress.Handler(), g.o.Grace/2)
}

func serve(ctx context.Context, l net.Listener, h http.Handler, grace time.Duration) error {
	if l == nil {
		<-ctx.Done()
		return nil
	}
	return ingress.Serve(ctx, l, h, grace)
}

// close stops what is still there when nothing comes in any more.
func (g *Gateway) close(ctx context.Context) (err error) {
	g.applying.Lock()
	defer g.applying.Unlock()
	g.stopParts(g.subscribers)
	stopRetirements(g.retired)
	g.leave(ctx)
	g.tellGone(ctx)
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
