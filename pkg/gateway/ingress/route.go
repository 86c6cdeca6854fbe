package ingress

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"golang.org/x/time/rate"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/room"
	"github.com/openfunction/events/pkg/plan"
)

// RouteOptions say where the events that are posted to /{Namespace}/{EventSource}/{Event} go, and which may. Exactly one of Next, Call and
// Away is set.
type RouteOptions struct {
	Namespace   string
	EventSource string
	Event       string
	HTTP        plan.HTTP
	// Next takes the event; the caller gets 202 once it did.
	Next event.Handler
	// Call takes the event and answers: the caller gets the sink's response.
	Call func(ctx context.Context, e *event.Event) (*Reply, error)
	// Away is what every post is answered, whoever posts, and before its body is read.
	Away error
	// Answered, when set, is told the status of each answer. It must be quick and safe for concurrent use.
	Answered func(status int)
	// Timeout bounds Next and Call; zero means Options.Timeout.
	Timeout time.Duration
	// MarkKind adds the extension openfunctionkind to events.
	MarkKind bool
	// SourceURI is the source of events made from raw bodies, if HTTP has none.
	SourceURI string
}

// Reply is a sink's response.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// ErrReply is wrapped by the error of a Call whose sink has handled the event. The caller is not asked to send it again: that would end like
// this as well, and the sink would handle it each time.
var ErrReply = errors.New("the sink has the event, but its reply cannot be passed on")

// Route is what SetRoutes serves. It is made by NewRoute and does not change.
type Route struct {
	RouteOptions
	raw   []rawAttribute
	auth  auth
	limit *rate.Limiter // nil: none
	// posts and bytes are what is inside of the ingress by this route.
	posts, bytes *room.Share
	refusals     *refusals
}

// smallBodies is what the bodies of a route may take whatever others take.
const smallBodies = 64 << 10

type routeKey struct{ namespace, eventSource, event string }

func (o *RouteOptions) key() routeKey { return routeKey{o.Namespace, o.EventSource, o.Event} }

func (o *RouteOptions) path() string {
	return fmt.Sprintf("/%s/%s/%s", o.Namespace, o.EventSource, o.Event)
}

// part is what logs call the route.
func (o *RouteOptions) part() string {
	return fmt.Sprintf("EventSource %s/%s http event %s", o.Namespace, o.EventSource, o.Event)
}

// Problem returns why nobody's token can be checked, as far as the latest of them has shown; nil while they can be, and without auth.oidc.
func (r *Route) Problem() error {
	if r.auth.problem == nil {
		return nil
	}
	return r.auth.problem()
}

// NewRoute returns the route that o describes, or what is wrong with it. What it has in common with the route that is served now goes on:
// another plan neither fills a rate limit up again nor forgets an issuer's keys, nor what was said.
func (i *Ingress) NewRoute(o RouteOptions) (*Route, error) {
	r := &Route{RouteOptions: o}
	var err error
	if r.raw, err = newRawAttributes(&o); err != nil {
		return nil, err
	}
	served := (*i.routes.Load())[o.key()]
	if served != nil {
		r.posts, r.bytes, r.refusals = served.posts, served.bytes, served.refusals
	} else {
		r.posts, r.bytes = i.posts.Share(0, 1), i.bytes.Share(smallBodies, 1)
		r.refusals = &refusals{}
	}
	if served != nil && reflect.DeepEqual(served.HTTP.Auth, o.HTTP.Auth) {
		r.auth = served.auth
	} else if r.auth, err = i.newAuth(&o); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if served != nil && reflect.DeepEqual(served.HTTP.RateLimit, o.HTTP.RateLimit) {
		r.limit = served.limit
	} else if l := o.HTTP.RateLimit; l != nil {
		r.limit = rate.NewLimiter(rate.Limit(l.PerSecond), l.Burst)
	}
	return r, nil
}
