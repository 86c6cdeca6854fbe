// Package lanes keeps the order of what has one key.
package lanes

import "sync"

// Lanes run what has one key one after the other, in the order in which it came. They have no bound of their own. The zero value is ready, and its
// method may be called from many goroutines at once.
type Lanes struct {
	mu sync.Mutex
	// waiting has the keys of which something runs, with what runs after it.
	waiting map[string][]func() bool
}

// Add runs f by start, or after what runs already for this key. When f returns false, nothing runs for the key any more.
func (l *Lanes) Add(key string, f func() bool, start func(func())) {
	l.mu.Lock()
	waiting, busy := l.waiting[key]
	if busy {
		l.waiting[key] = append(waiting, f)
		l.mu.Unlock()
		return
	}
	if l.waiting == nil {
		l.waiting = map[string][]func() bool{}
	}
	l.waiting[key] = nil
	l.mu.Unlock()
	start(func() {
		for f := f; f != nil && f(); {
			f = l.following(key)
		}
	})
}

// following returns what runs next for key, or nil: then nothing runs for it any more.
func (l *Lanes) following(key string) func() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := l.waiting[key]
	if len(waiting) == 0 {
		delete(l.waiting, key)
		return nil
	}
	l.waiting[key] = waiting[1:]
	return waiting[0]
}
