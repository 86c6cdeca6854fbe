//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"
)

// TestE2EDuplicates posts events again, as a producer does that got no answer. On every bus each arrives once, at each of two subscribers.
func TestE2EDuplicates(t *testing.T) {
	for name, b := range brokers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const events, times = 50, 4
			each, joined := newSink(t), newSink(t)
			file := write(t, "path.yaml", path(b.yaml, "duplicates"))
			p := run(t, append([]string{"-f", file, "--sink", "default/each=" + each.URL, "--sink", "default/joined=" + joined.URL}, b.args...)...)
			url := func(event string) func() string {
				return func() string { return p.url + "/default/duplicates/" + event }
			}
			for i := range events {
				for range times {
					publish(t, url("a"), fmt.Sprintf("a%02d", i), []byte(`{}`))
				}
			}
			for range times {
				publish(t, url("b"), "b", []byte(`{}`))
			}
			publish(t, url("a"), "last", []byte(`{}`))
			eventually(t, 60*time.Second, "every event has arrived", func() error {
				if got := len(each.ids()); got < events+1 {
					return fmt.Errorf("%d of %d ids", got, events+1)
				}
				return nil
			})
			eventually(t, 60*time.Second, "the join has fired", func() error {
				if len(joined.ids()) == 0 {
					return fmt.Errorf("no event")
				}
				return nil
			})
			for id, n := range each.ids() {
				if n != 1 {
					t.Errorf("%s arrived %d times, want once", id, n)
				}
			}
			if got := len(joined.received()); got != 1 {
				t.Errorf("a && b fired %d times, want once: b was published once, in four attempts", got)
			}
		})
	}
}
