package trigger

import (
	"sync"
)

// maxIdle bounds the goroutines that wait for work. What they cost is their stacks, a few KiB each.
const maxIdle = 128

// Workers run functions in goroutines that are used again. A new goroutine would have to grow its stack for each delivery, which costs
// about as much as reading the event. The zero value is ready; its methods may be called from many goroutines at once.
type Workers struct {
	mu     sync.Mutex
	idle   []chan func()
	closed bool
	all    sync.WaitGroup
}

// Go runs f and does not wait for it. The caller bounds how many functions run at once.
func (w *Workers) Go(f func()) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		worker := w.idle[n-1] // the one that ran last: its stack is still in the cache
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		worker <- f
		return
	}
	w.mu.Unlock()
	w.all.Go(func() { w.work(f) })
}

func (w *Workers) work(f func()) {
	next := make(chan func(), 1)
	for f != nil {
		f()
		if !w.rest(next) {
			return
		}
		f = <-next
	}
}

func (w *Workers) rest(next chan func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) == maxIdle {
		return false
	}
	w.idle = append(w.idle, next)
	return true
}

// Close waits until every function has returned. None may be started after it; calling it twice is safe.
func (w *Workers) Close() {
	w.mu.Lock()
	w.closed = true
	for _, worker := range w.idle {
		close(worker)
	}
	w.idle = nil
	w.mu.Unlock()
	w.all.Wait()
}
