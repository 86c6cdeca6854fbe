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

func TestOnlyTheDebugLogHoldsNothingBack(t *testing.T) {
	for level, want := range map[string]string{
		"debug": `^(\S+\s+WARN\s+again\s+\{"part": "p", "n": 1\}\n){50}$`,
		"info":  `^(\S+\s+WARN\s+again\s+\{"part": "p", "n": 1\}\n){10}\S+\s+WARN\s+again\s+\{"more": 40\}\n$`,
	} {
		var out lines
		log, flush, err := newLogger(level, &out)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			log.With("part", "p").Warnw("again", "n", 1)
		}
		flush()
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("%s: want %s, got:\n%s", level, want, out.String())
		}
	}
}
