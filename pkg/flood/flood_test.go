package flood

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// lines is what was written: messages, and how many more of them there were.
func lines(logs *observer.ObservedLogs) (all []string, more int64) {
	for _, e := range logs.All() {
		all = append(all, e.Level.String()+" "+e.Message)
		if n, ok := e.ContextMap()["more"].(int64); ok {
			more += n
		}
	}
	return all, more
}

func TestAFloodIsCutOffAndCounted(t *testing.T) {
	out, logs := observer.New(zapcore.InfoLevel)
	core, flush := Limit(out)
	log := zap.New(core).Sugar()
	var all sync.WaitGroup
	for range 8 {
		with := log.With("part", "p")
		all.Go(func() {
			for n := range 625 {
				with.Warnw("event dead-lettered", "n", n)
				with.Debugw("not to be seen")
			}
		})
	}
	all.Wait()
	log.Infow("the bus is back")
	flush()
	flush()
	got, more := lines(logs)
	var want []string
	for range equalLines {
		want = append(want, "warn event dead-lettered")
	}
	want = append(want, "info the bus is back", "warn event dead-lettered")
	if diff := cmp.Diff(want, got); diff != "" || more != 5000-equalLines {
		t.Errorf("more = %d, lines (-want +got):\n%s", more, diff)
	}
	if got := logs.All()[0].ContextMap()["part"]; got != "p" {
		t.Errorf("part = %v: the fields of the logger are lost", got)
	}
}

func TestAFloodIsCountedWhenItsWindowEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, logs := observer.New(zapcore.WarnLevel)
		core, flush := Limit(out)
		defer flush()
		log := zap.New(core).Sugar()
		for range equalLines + 1 {
			log.Warnw("again")
		}
		time.Sleep(window)
		synctest.Wait()
		log.Warnw("again")
		if all, more := lines(logs); len(all) != equalLines+2 || more != 1 {
			t.Errorf("%d lines and %d more, want %d and 1", len(all), more, equalLines+2)
		}
	})
}

func TestEachLoggerHasItsOwnLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, logs := observer.New(zapcore.WarnLevel)
		core, flush := Limit(out)
		defer flush()
		log := zap.New(core).Sugar()
		wrote := func(want int, said func(part *zap.SugaredLogger, n int)) {
			t.Helper()
			for n := range 3 * equalLines {
				said(log.With("bus", "b").With("part", n), n)
			}
			if got := logs.FilterMessage("redis is not read").Len(); got != want {
				t.Errorf("%d lines, want %d", got, want)
			}
			logs.TakeAll()
		}
		fails := func(part *zap.SugaredLogger, n int) {
			for range 3 {
				part.Warnw("redis is not read", "error", n)
			}
		}
		wrote(3*equalLines, func(part *zap.SugaredLogger, n int) { part.Warnw("redis is not read", "error", n) })
		wrote(0, fails)
		time.Sleep(window)
		synctest.Wait()
		logs.TakeAll()
		wrote(equalLines, fails)
		time.Sleep(ownLine)
		synctest.Wait()
		logs.TakeAll()
		wrote(3*equalLines+6, fails) // the first four parts fill the window
	})
}

func TestLoggersWithoutNumberAreOneFlood(t *testing.T) {
	out, logs := observer.New(zapcore.WarnLevel)
	core, flush := Limit(out)
	log := zap.New(core).Sugar()
	for n := range owners + 5000 {
		log.With("part", n).Warnw("redis is not read")
	}
	flush()
	if got, more := lines(logs); len(got) != owners+1 || more != 5000 {
		t.Errorf("%d lines and %d more, want %d and 5000", len(got), more, owners+1)
	}
}

// Everybody who logs waits for it.
func TestOwnersAreNotLookedThroughForEachLine(t *testing.T) {
	f := &flood{owned: map[owned]time.Time{}}
	began := time.Now()
	for n := range owners {
		f.own(owned{"redis is not read", uint64(n)}, began)
	}
	another := owned{"redis is not read", owners}
	if f.own(another, began) {
		t.Error("there is room for one more, want none")
	}
	for o := range f.owned { // as if it were due: looking would make room
		f.owned[o] = began.Add(-ownLine)
		break
	}
	if f.own(another, began.Add(sweepEvery-1)) {
		t.Error("they were looked through twice within sweepEvery")
	}
	if !f.own(another, began.Add(sweepEvery)) {
		t.Error("there is no room for one more when one is due")
	}
}
