package bus

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// perhaps is a bus that is away when err is not nil.
type perhaps struct {
	Bus
	err error
}

func (p *perhaps) Ready() error { return p.err }

func TestWhyASubscriptionDoesNotReceiveIsSaidOnce(t *testing.T) {
	limit, silence := Refused(errors.New("a limit")), errors.New("no answer")
	const (
		never  = "subscription cannot be set up: s: "
		broken = "subscription is interrupted: s: "
		now    = "subscription receives now: s: <nil>"
	)
	type step struct {
		after time.Duration
		err   error
		want  string // the line, or none
	}
	for name, steps := range map[string][]step{
		"refused from the start, and set up in the end": {{0, limit, never + "a limit"}, {time.Second, limit, ""}, {time.Hour, limit, ""}, {0, nil, now}, {0, nil, ""}},
		"received at once":                                    {{0, nil, ""}},
		"refused later":                                       {{0, nil, ""}, {0, limit, broken + "a limit"}, {0, limit, ""}, {0, nil, now}},
		"refused and set up by turns":                         {{0, limit, never + "a limit"}, {0, nil, now}, {0, limit, ""}, {0, nil, ""}, {time.Minute, limit, broken + "a limit"}},
		"unanswered for a moment":                             {{0, silence, ""}, {unansweredTime - 1, silence, ""}, {0, nil, ""}, {time.Hour, silence, ""}},
		"unanswered for long":                                 {{0, silence, ""}, {unansweredTime, silence, never + "no answer"}, {time.Hour, silence, ""}, {0, nil, now}},
		"unanswered for long, and then refused":               {{0, silence, ""}, {unansweredTime, silence, never + "no answer"}, {0, limit, never + "a limit"}, {0, nil, now}},
		"unanswered before and after the bus was away":        {{0, silence, ""}, {time.Hour, errAway, ""}, {0, silence, ""}, {unansweredTime, silence, never + "no answer"}},
		"the bus is away, which it says itself":               {{0, errAway, ""}, {time.Hour, errAway, ""}, {0, nil, ""}, {time.Hour, errAway, ""}},
		"refused, away, refused: it is one reason, said once": {{0, limit, never + "a limit"}, {time.Hour, errAway, ""}, {time.Hour, limit, ""}, {0, nil, now}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.InfoLevel)
				var told error
				b := &perhaps{}
				r := Reports{Bus: b, Log: zap.New(core).Sugar(), Subscription: Subscription{Name: "s", Ready: func(err error) { told = err }}}
				r.Await()
				for i, s := range steps {
					time.Sleep(s.after)
					if b.err = nil; errors.Is(s.err, errAway) {
						b.err = s.err
						r.begun = true
						r.Await()
					} else {
						r.Report(s.err)
					}
					got := ""
					for _, l := range logs.TakeAll() {
						got += fmt.Sprintf("%s: %s: %v", l.Message, l.ContextMap()["subscription"], l.ContextMap()["error"])
					}
					if diff := cmp.Diff(s.want, got); diff != "" {
						t.Errorf("step %d is logged differently (-want +got):\n%s", i, diff)
					}
					if !errors.Is(told, s.err) || IsRefused(told) != IsRefused(s.err) {
						t.Errorf("step %d: Ready was told %v, want that it is %v", i, told, s.err)
					}
				}
				r.End()
				if told == nil || logs.Len() > 0 {
					t.Errorf("the end: Ready was told %v and the log %v, want an error and nothing", told, logs.All())
				}
			})
		})
	}
}

var errAway = errors.New("connection refused")

func TestThatASubscriptionIsStartingIsNotReplaced(t *testing.T) {
	r := Reports{Bus: &perhaps{err: errAway}, Log: zap.NewNop().Sugar(), Subscription: Subscription{Ready: func(err error) { t.Errorf("told %v", err) }}}
	r.Await()
}
