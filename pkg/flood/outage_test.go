package flood

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAnOutageIsSaidOnceAndNotTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o Outage
		for i, tt := range []struct {
			after time.Duration
			fails bool
			said  bool
		}{
			{0, false, false}, // of what works nothing is said
			{0, true, true},
			{time.Hour, true, false},
			{0, false, true},
			{0, false, false},
			{0, true, true}, // an hour after the last time
			{0, false, true},
			{0, true, false}, // by turns
			{0, false, false},
			{sayAgain - time.Nanosecond, true, false},
			{time.Nanosecond, true, true}, // it still fails
			{0, false, true},
		} {
			time.Sleep(tt.after)
			said := o.Ends
			if tt.fails {
				said = o.Begins
			}
			if got := said(); got != tt.said {
				t.Errorf("step %d: said %t, want %t", i, got, tt.said)
			}
		}
	})
}
