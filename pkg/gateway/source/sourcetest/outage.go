package sourcetest

import (
	"slices"
	"sync"
	"time"
)

// stop stops the server, and starts it again at the end of the case if that did not happen.
func (h *harness) stop() (start func()) {
	h.Helper()
	var once sync.Once
	start = func() { once.Do(func() { h.f.Start(h.T) }) }
	h.Cleanup(start)
	h.f.Stop(h.T)
	return start
}

func outage(h *harness) {
	r := h.read(h.process("a"), nil)
	before := numbers("before", 20)
	h.produce(before...)
	if !h.f.Persistent || !h.f.AtLeastOnce {
		h.await(before, r)
	}
	began := time.Now()
	start := h.stop()
	h.eventually("the source says that it does not receive", func() bool { return r.problem() != nil })
	time.Sleep(h.f.Outage - time.Since(began))
	start()
	h.eventually("the source is ready again", r.isReady)
	after := numbers("after", 20)
	h.produce(after...)
	h.await(slices.Concat(before, after), r)
	h.saysOnce(r)
}

// saysOnce checks that ready is not called for every attempt: each call is a change.
func (h *harness) saysOnce(r *reader) {
	h.Helper()
	last := "-"
	for _, err := range r.reports() {
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text == last {
			h.Errorf("ready was called twice with %q", text)
		}
		last = text
	}
}

func startsFirst(h *harness) {
	start := h.stop()
	r := h.start(h.process("a"), nil)
	h.eventually("the source says that it does not receive", func() bool { return r.problem() != nil })
	start()
	h.eventually("the source is ready", r.isReady)
	h.produce("m")
	h.await([]string{"m"}, r)
}

func endsWhileAway(h *harness) {
	r := h.read(h.process("a"), nil)
	start := h.stop()
	h.eventually("the source says that it does not receive", func() bool { return r.problem() != nil })
	r.stop()
	start()
}
