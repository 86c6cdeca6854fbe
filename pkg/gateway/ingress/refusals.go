package ingress

import (
	"context"
	"net/http"
	"sync"
	"time"

	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/flood"
)

// sayAgain is how long after a status was said it may be said again, of one route.
const sayAgain = 30 * time.Second

// refusals remembers what the log says of a route's refusals. A caller must not fill the log, so of each status it says one, and then how
// many there were since. The zero value is ready.
type refusals struct {
	mu   sync.Mutex
	last map[int]time.Time
	more map[int]int

	crowded flood.Outage // too many requests are inside
}

// sayRefused says in the log what is wrong with a post: who reads the answer may not be who can put it right.
func (r *Route) sayRefused(ctx context.Context, now time.Time, status int, err error) {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
	default:
		return // it may be taken later, or is said elsewhere
	}
	if more, due := r.refusals.due(status, now); due {
		logging.FromContext(ctx).Warnw("post refused", "event", r.part(), "status", status, "error", event.Short(err.Error()), "more", more)
	}
}

// due tells whether a status may be said, and how many of it were not since it was said before.
func (r *refusals) due(status int, now time.Time) (more int, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, said := r.last[status]; said && now.Sub(last) < sayAgain {
		r.more[status]++
		return 0, false
	}
	if r.last == nil {
		r.last, r.more = map[int]time.Time{}, map[int]int{}
	}
	more = r.more[status]
	r.last[status], r.more[status] = now, 0
	return more, true
}
