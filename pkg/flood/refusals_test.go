package flood

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestRefusalsAreSaidUntilNoneIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Refusals
		refused := func(again bool) func() bool { return func() bool { return r.Refused(again) } }
		taken := func(refused bool) func() bool { return func() bool { return r.Taken(refused) } }
		givenUp := func() bool { r.GivenUp(); return false }
		for i, tt := range []struct {
			after time.Duration
			do    func() bool
			said  bool
		}{
			{0, taken(false), false},
			{0, refused(false), true},
			{time.Hour, refused(true), false},
			{0, refused(false), false}, // a second one
			{0, taken(false), false},
			{0, taken(true), false}, // one is left
			{0, taken(true), true},
			{time.Hour, refused(false), true},
			{0, refused(false), false},
			{0, taken(true), false},
			{0, givenUp, false}, // none is left
			{0, taken(false), false},
			{time.Hour, refused(false), true}, // so this is said
			{0, taken(true), true},
			{0, refused(false), false}, // by turns
			{sayAgain, refused(true), true},
			{0, taken(true), true},
		} {
			time.Sleep(tt.after)
			if got := tt.do(); got != tt.said {
				t.Errorf("step %d: said %t, want %t", i, got, tt.said)
			}
		}
	})
}
