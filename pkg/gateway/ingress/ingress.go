// Package ingress takes CloudEvents over HTTP.
package ingress

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/openfunction/events/pkg/flood"
	"github.com/openfunction/events/pkg/gateway/room"
)

// Options are what an Ingress needs from outside. The zero value is ready.
type Options struct {
	// Ready returns nil while all is well, and otherwise an error that lists what is not; /readyz shows it. Nil means always ready.
	Ready func() error
	// MaxConcurrent bounds the posts that are inside at once; those beyond are answered 503. A route may have half of them, and more than one,
	// what is fair; see package room. Zero means 4096.
	MaxConcurrent int
	// MaxBytes bounds the bodies of the posts that are inside, as MaxConcurrent their number; zero means 256 MiB.
	MaxBytes int64
	// MaxBatch bounds the events of one batch; zero means 1000.
	MaxBatch int
	// Timeout bounds how long a route without its own may take to handle an event; zero means 30 s.
	Timeout time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// NewID makes the id of raw bodies; nil means random UUIDs in order of time.
	NewID func() string
	// Dial connects to the issuers of tokens; nil means a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Ingress serves routes. All its methods may be called at any time from many goroutines.
type Ingress struct {
	o        Options
	router   chi.Router
	routes   atomic.Pointer[map[routeKey]*Route]
	draining atomic.Bool

	// base outlives every caller: an event that has been read is handled although its caller hangs up. Close ends it.
	base   context.Context
	cancel context.CancelFunc
	// slots holds one token for each post that is inside. Close holds them all to know that none is.
	slots   chan struct{}
	closing sync.Mutex
	crowded flood.Outage // no slot is free

	// posts and bytes are what routes share: requests that are inside, and their bodies.
	posts, bytes *room.Room
}

// New returns an Ingress without routes.
func New(o Options) *Ingress {
	if o.MaxConcurrent <= 0 {
		o.MaxConcurrent = 4096
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 256 << 20
	}
	if o.MaxBatch <= 0 {
		o.MaxBatch = 1000
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewID == nil {
		o.NewID = newID
	}
	i := &Ingress{
		o: o, slots: make(chan struct{}, o.MaxConcurrent),
		posts: room.New(int64(o.MaxConcurrent)), bytes: room.New(o.MaxBytes),
	}
	i.base, i.cancel = context.WithCancel(context.Background())
	i.SetRoutes(nil)
	i.router = i.newRouter()
	return i
}

func newID() string {
	if id, err := uuid.NewV7(); err == nil {
		return id.String()
	}
	return uuid.NewString()
}

func (i *Ingress) newRouter() chi.Router {
	r := chi.NewRouter()
	r.Use(i.always)
	r.Get("/healthz", healthz)
	r.Head("/healthz", healthz)
	r.Get("/readyz", i.readyz)
	r.Head("/readyz", i.readyz)
	r.Post("/{namespace}/{eventSource}/{event}", i.post)
	r.Post("/{namespace}/{eventSource}/{event}/", i.post)
	r.NotFound(notFound)
	r.MethodNotAllowed(methodNotAllowed)
	return r
}

// Handler returns what serves the routes, the probes and the webhook handshake.
func (i *Ingress) Handler() http.Handler { return i.router }

// SetRoutes serves routes in place of those before. Requests that are inside stay on the route they found.
func (i *Ingress) SetRoutes(routes []*Route) {
	table := make(map[routeKey]*Route, len(routes))
	for _, r := range routes {
		table[r.key()] = r
	}
	i.routes.Store(&table)
}

// Drain makes /readyz answer 503 and asks callers to close their connections. Requests are still served.
func (i *Ingress) Drain() { i.draining.Store(true) }

// Close gives up on what is still being handled and returns once nothing is. No post is taken from then on.
// Call it after the server has stopped; calling it twice is safe.
func (i *Ingress) Close() {
	i.Drain()
	i.cancel()
	i.closing.Lock()
	defer i.closing.Unlock()
	for range cap(i.slots) {
		i.slots <- struct{}{}
	}
	for range cap(i.slots) {
		<-i.slots
	}
}
