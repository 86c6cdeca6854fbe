package ingress

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"
	"golang.org/x/sync/errgroup"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
)

// batchWorkers bounds the events of one batch that are handled at once.
const batchWorkers = 16

func (i *Ingress) post(w http.ResponseWriter, r *http.Request) {
	key := routeKey{chi.URLParam(r, "namespace"), chi.URLParam(r, "eventSource"), chi.URLParam(r, "event")}
	route, ok := (*i.routes.Load())[key]
	if !ok {
		text(w, http.StatusNotFound, fmt.Sprintf("there is no http event %s of EventSource %s/%s: declare it or look at the address", key.event, key.namespace, key.eventSource))
		return
	}
	status := i.serve(w, r, route)
	if route.Answered != nil {
		route.Answered(status)
	}
}

// serve answers a post to route, and returns the status.
func (i *Ingress) serve(w http.ResponseWriter, r *http.Request, route *Route) int {
	select {
	case i.slots <- struct{}{}:
		defer func() { <-i.slots }()
	default:
		if i.crowded.Begins() {
			logging.FromContext(r.Context()).Warnw("posts are refused: too many are inside", "event", route.part(), "status", http.StatusServiceUnavailable)
		}
		return retryLater(w, http.StatusServiceUnavailable, time.Second, "too many requests are inside: try again later")
	}
	if i.crowded.Ends() {
		logging.FromContext(r.Context()).Infow("posts are taken again")
	}
	if i.base.Err() != nil {
		return retryLater(w, http.StatusServiceUnavailable, time.Second, "shutting down: try again")
	}
	if !route.posts.Try(1) {
		if route.refusals.crowded.Begins() {
			logging.FromContext(r.Context()).Warnw("posts are refused: too many to this event are inside", "event", route.part(), "status", http.StatusServiceUnavailable)
		}
		return retryLater(w, http.StatusServiceUnavailable, time.Second, "too many requests to this event are inside: try again later")
	}
	defer route.posts.Leave(1)
	if route.refusals.crowded.Ends() {
		logging.FromContext(r.Context()).Infow("posts to this event are taken again", "event", route.part())
	}
	reply, err := i.handle(r, route)
	switch {
	case err != nil:
		status := answerError(w, err)
		route.sayRefused(r.Context(), i.o.Now(), status, err)
		return status
	case reply != nil:
		return answerReply(w, reply)
	}
	w.WriteHeader(http.StatusAccepted)
	return http.StatusAccepted
}

// handle returns once the events of r are safe, with the sink's reply if there is one.
func (i *Ingress) handle(r *http.Request, route *Route) (reply *Reply, err error) {
	defer recovered(r.Context(), &err)
	if route.Away != nil {
		return nil, route.Away
	}
	m, body, held, err := i.open(r, route)
	if held > 0 {
		defer route.bytes.Leave(held)
	}
	if err != nil {
		return nil, err
	}
	var events []*event.Event
	if m == modeBatch {
		events, err = i.decodeBatch(body, route)
	} else {
		events = make([]*event.Event, 1)
		events[0], err = i.decode(m, r, body, route)
	}
	if err != nil {
		return nil, err
	}
	limit := dataLimit(route.HTTP.MaxBodyBytes)
	for _, e := range events {
		if int64(len(e.Data())) > limit {
			return nil, tooLarge(limit)
		}
	}
	if err := i.admit(route, len(events)); err != nil {
		return nil, err
	}
	ctx, cancel := i.detach(r, route)
	defer cancel()
	if m == modeBatch {
		return nil, handOverAll(ctx, route, events)
	}
	return handOver(ctx, route, events[0])
}

// open returns the body of a request that may post, and in any case how much room of the route it takes. Who posts is asked first, and with the least that it takes: a flood of strangers is
// turned away before it costs a body, and uses nothing of the limit of those who may.
func (i *Ingress) open(r *http.Request, route *Route) (m mode, body []byte, held int64, err error) {
	if route.auth.head != nil {
		if err := route.auth.head(r); err != nil {
			return 0, nil, 0, err
		}
	}
	if m, err = modeOf(r, route); err != nil {
		return 0, nil, 0, err
	}
	if route.limit != nil {
		if err := exhausted(route.limit, i.o.Now()); err != nil {
			return 0, nil, 0, err
		}
	}
	if body, held, err = readBody(r, bodyLimit(m, route.HTTP.MaxBodyBytes), route.bytes); err != nil {
		return 0, nil, held, err
	}
	if route.auth.body != nil {
		err = route.auth.body(r.Header, body)
	}
	return m, body, held, err
}

func (i *Ingress) admit(route *Route, events int) error {
	if route.limit == nil {
		return nil
	}
	return admit(route.limit, i.o.Now(), events)
}

func handOver(ctx context.Context, route *Route, e *event.Event) (*Reply, error) {
	if route.Call != nil {
		return route.Call(ctx, e)
	}
	return nil, route.Next.Handle(ctx, e)
}

// handOverAll hands over a batch, a bounded number at once, and those of one partition key one after the other. The answer is for all: one error fails the batch, although other events of
// it may be safe already; the caller's repeat brings those a second time.
func handOverAll(ctx context.Context, route *Route, events []*event.Event) error {
	errs := make([]error, len(events))
	var group errgroup.Group
	group.SetLimit(batchWorkers)
	for _, row := range rows(events) {
		group.Go(func() error {
			for _, n := range row {
				if errs[n] = handOverOne(ctx, route, n, events[n]); errs[n] != nil {
					break // what follows it must not come before it
				}
			}
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs, where their order does not depend on chance
	return worst(errs)
}

// rows divides a batch, by index, into what may be handed over at once.
func rows(events []*event.Event) [][]int {
	all := make([][]int, 0, len(events))
	of := map[string]int{}
	for n, e := range events {
		key := event.PartitionKey(e)
		row, ok := of[key]
		if !ok || key == "" {
			row = len(all)
			all = append(all, nil)
			of[key] = row
		}
		all[row] = append(all[row], n)
	}
	return all
}

func handOverOne(ctx context.Context, route *Route, n int, e *event.Event) (err error) {
	defer recovered(ctx, &err)
	reply, err := handOver(ctx, route, e)
	if err != nil {
		return fmt.Errorf("event %d of the batch: %w", n, err)
	}
	if reply != nil && (reply.Status < 200 || reply.Status > 299) {
		return refuse(passable(reply.Status), "event %d of the batch: the sink answered %d", n, reply.Status)
	}
	return nil
}

// worst returns an error that trying again cannot cure, if there is one, and else the first.
func worst(errs []error) error {
	var first error
	for _, err := range errs {
		if event.IsPermanent(err) {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// detach returns a context for what happens to an event once it has been read: the caller's hanging up does not end it,
// the route's timeout and Close do.
func (i *Ingress) detach(r *http.Request, route *Route) (context.Context, context.CancelFunc) {
	timeout := route.Timeout
	if timeout <= 0 {
		timeout = i.o.Timeout
	}
	return context.WithTimeout(detached{i.base, r.Context()}, timeout)
}

// detached lives as long as the first context and has the values of the second.
type detached struct {
	context.Context
	values context.Context
}

// Value asks its own context first: that is how package context finds whom to follow without a goroutine.
func (d detached) Value(key any) any {
	if value := d.Context.Value(key); value != nil {
		return value
	}
	return d.values.Value(key)
}

var errPanic = errors.New("a fault in the gateway, see its log")

// recovered turns a panic into errPanic; here is where it stops travelling, so here it is logged.
func recovered(ctx context.Context, err *error) {
	if p := recover(); p != nil {
		logging.FromContext(ctx).Errorw("request panicked", "panic", p, "stack", string(debug.Stack()))
		*err = errPanic
	}
}
