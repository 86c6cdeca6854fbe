package sourcetest

import (
	"sync"
	"testing"
	"time"
)

// What Load offers each second, and how much of it a test has to have seen.
const perSecond, enough = 1000, 900

// Load offers 1,000 events each second to a server while something is done to those who read. It goes by the clock: when it is late it
// offers more at once, and it waits for the server alone. Its methods are called by the test's goroutine.
type Load struct {
	t           testing.TB
	produce     func(from, to int)
	samples     chan sample
	stop        func()
	stopped     chan struct{}
	done        chan struct{}
	offered     int // once done is closed
	first, last sample
}

// sample is how many events the server had when.
type sample struct {
	offered int
	at      time.Time
}

// StartLoad begins to call produce with the numbers of the events that are due, from one up to another. It returns once the server has them.
func StartLoad(t testing.TB, produce func(from, to int)) *Load {
	l := &Load{t: t, produce: produce, samples: make(chan sample), stopped: make(chan struct{}), done: make(chan struct{})}
	l.stop = sync.OnceFunc(func() { close(l.stopped) })
	go l.run()
	t.Cleanup(func() {
		l.stop()
		<-l.done
	})
	return l
}

func (l *Load) run() {
	defer close(l.done)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-l.stopped:
			return
		case <-tick.C:
		}
		due := int(time.Since(began) * perSecond / time.Second)
		l.produce(l.offered, due)
		l.offered = due
		select {
		case l.samples <- sample{due, time.Now()}:
		default:
		}
	}
}

// Mark begins what is measured, or ends it as far as one knows: call it before the first change and after each.
func (l *Load) Mark() {
	l.t.Helper()
	if l.first.at.IsZero() {
		l.first = l.next()
	}
	l.last = l.next()
}

// Stop ends the load and returns how many events the server has. It fails the test if they were too few between the first mark and the last.
func (l *Load) Stop() int {
	l.t.Helper()
	// The last burst may have been held up, and the next makes up for that.
	for range 100 {
		if l.rate() >= enough {
			break
		}
		l.last = l.next()
	}
	l.stop()
	<-l.done
	l.t.Logf("%.0f events/s were offered in %.1f s, from the first change to the last", l.rate(), l.last.at.Sub(l.first.at).Seconds())
	if !(l.rate() >= enough) {
		l.t.Errorf("want %d events/s at least", enough)
	}
	return l.offered
}

func (l *Load) rate() float64 {
	return float64(l.last.offered-l.first.offered) / l.last.at.Sub(l.first.at).Seconds()
}

func (l *Load) next() (s sample) {
	l.t.Helper()
	select {
	case s = <-l.samples:
	case <-l.done:
		l.t.Fatal("the load has ended")
	}
	return s
}
