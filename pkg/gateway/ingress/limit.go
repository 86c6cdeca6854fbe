package ingress

import (
	"net/http"
	"time"

	"golang.org/x/time/rate"
)

// admit takes n events off the limit, all or none.
func admit(l *rate.Limiter, now time.Time, n int) error {
	switch {
	case l.AllowN(now, n):
		return nil
	case n > l.Burst():
		return refuse(http.StatusRequestEntityTooLarge, "the batch has %d events and the rate limit lets %d through at once: send less at once, or raise rateLimit.burst of the event",
			n, l.Burst())
	}
	return limited(l, now, n)
}

// exhausted refuses what admit would refuse anyway, before its body is read: so it does not know how many events are in there.
func exhausted(l *rate.Limiter, now time.Time) error {
	if l.TokensAt(now) >= 1 {
		return nil
	}
	return limited(l, now, 1)
}

// limited says when there will be room for n. It does not reserve it: callers that never come back would keep it from the others.
func limited(l *rate.Limiter, now time.Time, n int) error {
	refused := refuse(http.StatusTooManyRequests, "the rate limit of %g events per second is used up: try again later, or raise rateLimit of the event", float64(l.Limit()))
	missing := max(0, float64(n)-l.TokensAt(now))
	refused.after = max(time.Second, time.Duration(missing/float64(l.Limit())*float64(time.Second)))
	return refused
}
