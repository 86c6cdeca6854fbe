package sourcetest

import (
	"testing"
	"testing/synctest"
	"time"
)

// recorded is a test that may fail.
type recorded struct {
	testing.TB
	failed bool
}

func (r *recorded) Errorf(string, ...any) { r.failed = true }
func (r *recorded) Logf(string, ...any)   {}

func TestLoadGoesByTheClock(t *testing.T) {
	for name, tt := range map[string]struct {
		took   func(events int) time.Duration
		failed bool
	}{
		"a server that is fast":                   {func(int) time.Duration { return time.Millisecond }, false},
		"a server that is slow with each burst":   {func(int) time.Duration { return 300 * time.Millisecond }, false},
		"a server that takes 500 events a second": {func(n int) time.Duration { return time.Duration(n) * 2 * time.Millisecond }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test := &recorded{TB: t}
				next := 0
				l := StartLoad(test, func(from, to int) {
					if from != next {
						t.Errorf("produce(%d, %d), want from %d", from, to, next)
					}
					next = to
					time.Sleep(tt.took(to - from))
				})
				time.Sleep(5 * time.Second)
				l.Mark()
				time.Sleep(5 * time.Second)
				l.Mark()
				if n := l.Stop(); n != next || test.failed != tt.failed {
					t.Errorf("Stop() = %d, failed %t; want %d, failed %t", n, test.failed, next, tt.failed)
				}
			})
		})
	}
}
