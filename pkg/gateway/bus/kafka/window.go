package kafka

import (
	"slices"
	"sync"
)

// window bounds the publications of a producer that wait for their acknowledgement. A partition may have as many under way as are free, so that those
// that get no answer leave half to the others, the next half of that, and it may always have one. Who waits for a partition is let in in order.
type window struct {
	mu      sync.Mutex
	free    int // less than nothing when each of many has its one
	lanes   map[place]*lane
	waiting map[*lane]struct{}
}

// lane is what a partition has of the window.
type lane struct {
	used  int
	queue []chan struct{} // of who waits; closed to let in
}

func newWindow(size int) *window {
	return &window{free: size, lanes: map[place]*lane{}, waiting: map[*lane]struct{}{}}
}

func (w *window) fits(l *lane) bool { return l.used < max(w.free, 1) }

func (w *window) take(l *lane) { l.used, w.free = l.used+1, w.free-1 }

// enter returns nil if the caller is in, and otherwise what is closed as soon as it is. Who does not wait for that calls abandon, all others leave.
func (w *window) enter(at place) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.lanes[at]
	if l == nil {
		l = &lane{}
		w.lanes[at] = l
	}
	if len(l.queue) == 0 && w.fits(l) {
		w.take(l)
		return nil
	}
	turn := make(chan struct{})
	l.queue = append(l.queue, turn)
	w.waiting[l] = struct{}{}
	return turn
}

func (w *window) abandon(at place, turn chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.lanes[at]
	i := slices.Index(l.queue, turn)
	if i < 0 { // it was let in meanwhile
		w.release(l)
		return
	}
	if l.queue = slices.Delete(l.queue, i, i+1); len(l.queue) == 0 {
		delete(w.waiting, l)
	}
}

func (w *window) leave(at place) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.release(w.lanes[at])
}

func (w *window) release(l *lane) {
	l.used, w.free = l.used-1, w.free+1
	for l := range w.waiting {
		for len(l.queue) > 0 && w.fits(l) {
			w.take(l)
			close(l.queue[0])
			l.queue = l.queue[1:]
		}
		if len(l.queue) == 0 {
			delete(w.waiting, l)
		}
	}
}
