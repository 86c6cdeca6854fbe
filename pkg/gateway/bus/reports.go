package bus

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/openfunction/events/pkg/flood"
)

// unansweredTime is for how long a subscription may get no answer before the log says so: that the bus is away is found out meanwhile, and said once
// for all of its subscriptions, and an election is over.
const unansweredTime = 10 * time.Second

// Reports tells whether a subscription receives: whoever asked, each time, and the log once when it cannot and once when it can again. That the
// bus is away is the bus's to say. Its methods are called by one goroutine at a time.
type Reports struct {
	Bus          Bus // of the subscription
	Subscription Subscription
	Log          *zap.SugaredLogger // names the bus

	begun, received  bool
	since            time.Time // without an answer; zero if not
	refused, failing flood.Outage
}

// Report tells that the subscription receives, if err is nil, or why it does not.
func (r *Reports) Report(err error) {
	r.begun = true
	log := r.Log.With("subscription", r.Subscription.Name)
	if err == nil {
		refused, failing := r.refused.Ends(), r.failing.Ends()
		if refused || failing {
			log.Infow("subscription receives now")
		} else {
			log.Debugw("subscription is ready")
		}
		r.received, r.since = true, time.Time{}
	} else if r.isNews(err) {
		text := "subscription cannot be set up"
		if r.received {
			text = "subscription is interrupted"
		}
		log.Warnw(text, "error", err)
	}
	r.tell(err)
}

// Partly tells that the subscription receives, and if err is not nil what it does not receive meanwhile, which the caller has said in the log.
func (r *Reports) Partly(err error) {
	r.Report(nil) // it exists, so whoever waited for it need not any more
	if err != nil {
		r.tell(err)
	}
}

// Await is called before the subscription waits for a bus that may be away.
func (r *Reports) Await() {
	if !r.begun { // it is starting, which says more
		return
	}
	if err := r.Bus.Ready(); err != nil {
		r.Report(err)
	}
}

// End tells that the subscription has ended, which is nothing for the log.
func (r *Reports) End() { r.tell(errEnded) }

var errEnded = errors.New("the subscription has ended")

func (r *Reports) isNews(err error) bool {
	switch {
	case r.Bus.Ready() != nil:
		r.since = time.Time{}
		return false
	case IsRefused(err):
		r.since = time.Time{}
		return r.refused.Begins()
	case r.since.IsZero():
		r.since = time.Now()
	}
	return time.Since(r.since) >= unansweredTime && r.failing.Begins()
}

func (r *Reports) tell(err error) {
	if r.Subscription.Ready == nil {
		return
	}
	if err != nil {
		err = fmt.Errorf("subscription %s: %w", r.Subscription.Name, err)
	}
	r.Subscription.Ready(err)
}

type refusedError struct{ error }

func (e refusedError) Unwrap() error { return e.error }

// Refused marks err, of setting a subscription up, as the answer of a broker that is there and does not want it: for a limit, a permission, a setting.
// That no answer came, or that the broker is not ready to give one, is none.
func Refused(err error) error { return refusedError{err} }

// IsRefused tells whether err was marked by Refused.
func IsRefused(err error) bool {
	var refused refusedError
	return errors.As(err, &refused)
}
