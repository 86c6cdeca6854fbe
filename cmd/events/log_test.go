package main

import (
	"regexp"
	"strings"
	"sync"
	"testing"
)

// lines is a writer for many goroutines.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestLogDoesNotFlood(t *testing.T) {
	var out lines
	log, flush, err := newLogger("info", &out)
	if err != nil {
		t.Fatal(err)
	}
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
	got := out.String()
	if n := strings.Count(got, "event dead-lettered"); n != equalLines+1 {
		t.Errorf("%d lines about dead letters, want %d and their number:\n%s", n, equalLines, got)
	}
	for _, want := range []string{`WARN\s+event dead-lettered\s+\{"part": "p", "n": \d+\}\n`, `WARN\s+event dead-lettered\s+\{"more": 4990\}\n`, `INFO\s+the bus is back\n`} {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("no %s in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "not to be seen") || strings.Contains(got, `"more": 0`) {
		t.Errorf("too much in:\n%s", got)
	}
}

func TestDebugLogHoldsNothingBack(t *testing.T) {
	var out lines
	log, flush, err := newLogger("debug", &out)
	if err != nil {
		t.Fatal(err)
	}
	defer flush()
	for range 5 * equalLines {
		log.Debugw("again")
	}
	if n := strings.Count(out.String(), "again"); n != 5*equalLines {
		t.Errorf("%d lines, want %d", n, 5*equalLines)
	}
}

func TestFloodIsCountedWhenItsWindowEnds(t *testing.T) {
	var out lines
	log, flush, err := newLogger("warn", &out)
	if err != nil {
		t.Fatal(err)
	}
	defer flush()
	f := log.Desugar().Core().(*bounded).flood
	for range equalLines + 1 {
		log.Warnw("again")
	}
	f.end("again")
	log.Warnw("again")
	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(got) != equalLines+2 || !strings.Contains(got[equalLines], `{"more": 1}`) {
		t.Errorf("got %d lines, want %d, the last but one with a number:\n%s", len(got), equalLines+2, out.String())
	}
}
