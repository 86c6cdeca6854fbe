package sourcetest

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/openfunction/events/pkg/event"
)

// drains ends a source while an event is in flight. It is not told to give up at once, and what it took does not come again.
func drains(h *harness) {
	began, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	first := h.read(h.process("a"), func(ctx context.Context, _ *event.Event) error {
		once.Do(func() { close(began) })
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	h.produce("in flight")
	<-began
	first.cancel()
	select {
	case <-first.ended:
		h.Error("Run has returned while an event was in flight")
	case <-time.After(300 * time.Millisecond):
	}
	close(release)
	first.waitEnd()
	h.await([]string{"in flight"}, first)
	if !h.f.AtLeastOnce {
		return
	}
	second := h.read(h.process("a"), nil)
	h.produce("next")
	h.await([]string{"next"}, second)
	for _, data := range second.data() {
		if data == "in flight" {
			h.Error("what was taken comes again")
		}
	}
}

// credentials has a process that is refused between two that are not.
func credentials(h *harness) {
	first := h.read(h.process("a"), nil)
	h.produce("before")
	h.await([]string{"before"}, first)
	first.stop()

	p := h.process("a")
	p.Wrong = true
	wrong := h.start(p, nil)
	h.eventually("the source says what is wrong", func() bool { return wrong.problem() != nil })
	err := wrong.problem().Error()
	for _, want := range h.f.Refusal {
		if !strings.Contains(err, want) {
			h.Errorf("ready(%q), want %q in it", err, want)
		}
	}
	if strings.Contains(err, "\n") {
		h.Errorf("ready(%q), want one sentence", err)
	}
	meanwhile := numbers("meanwhile", 20)
	h.produce(meanwhile...)
	wrong.stop()
	for _, err := range wrong.reports() {
		if err == nil {
			h.Error("the source was ready with wrong credentials")
		} else if strings.Contains(err.Error(), WrongSecret) {
			h.Errorf("ready(%v) holds the secret", err)
		}
	}

	second := h.read(h.process("a"), nil)
	h.produce("after")
	want := []string{"after"}
	if h.f.AtLeastOnce {
		want = append(meanwhile, want...)
	}
	h.await(want, second)
}

func noLeak(h *harness) {
	cycle := func() {
		r := h.read(h.process("a"), nil)
		want := numbers("m", 10)
		h.produce(want...)
		h.await(want, r)
		r.stop()
	}
	cycle() // what the server keeps, it has from now on
	before := settled()
	cycle()
	cycle()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before+1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			h.Fatalf("%d goroutines after Run, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// settled is the number of goroutines once it has not fallen for a while.
func settled() int {
	lowest, since := runtime.NumGoroutine(), time.Now()
	for time.Since(since) < time.Second {
		time.Sleep(10 * time.Millisecond)
		if n := runtime.NumGoroutine(); n < lowest {
			lowest, since = n, time.Now()
		}
	}
	return lowest
}
