// Package room bounds what a process holds, and keeps one of its users from taking the room of all others.
package room

import (
	"math"
	"runtime/debug"
	"sync"
)

// Room is what there is for all, in bytes say. Its shares may be used by many goroutines at once. A nil Room has no bounds.
type Room struct {
	size int64

	mu      sync.Mutex
	used    int64
	waiting chan struct{} // closed when room was made; nil while nobody waits
}

// New returns a Room of size.
func New(size int64) *Room { return &Room{size: size} }

// Memory returns how many bytes a part of a process may hold that is to have a fraction of its memory: of GOMEMLIMIT, or of 1 GiB where
// there is none.
func Memory(fraction float64) int64 {
	limit := debug.SetMemoryLimit(-1) // it only asks
	if limit == math.MaxInt64 {
		limit = 1 << 30
	}
	return int64(fraction * float64(limit))
}

// Share is what one user holds of a room. A nil Share has no bounds.
//
// A share may grow as long as what is free is no less than what it has: of those that take all they can the first gets half of the room, the next
// half of what is left, and there is always some for who comes next. What is below its floor it always gets.
// See Choudhury and Hahne, "Dynamic queue length thresholds", 1998.
type Share struct {
	room  *Room
	floor int64
	least int // how many it may hold however large they are

	// Under the room's lock:
	used   int64
	count  int
	closed bool
}

// Share returns a share that may always hold up to floor, and always the least number of things, however large.
func (r *Room) Share(floor int64, least int) *Share {
	return &Share{room: r, floor: floor, least: max(1, least)}
}

// Try takes room for a thing of a size, if there is some.
func (s *Share) Try(size int64) bool {
	return s.TryOr(size) == nil
}

func (s *Share) try(size int64) bool {
	if s.count >= s.least && !s.fits(size) {
		return false
	}
	s.used, s.room.used = s.used+size, s.room.used+size
	s.count++
	return true
}

func (s *Share) fits(size int64) bool {
	used := s.used + size
	return used <= s.floor || used <= s.room.size-s.room.used-size
}

// Grow takes more room for a thing that has some already, if there is any, or if the share has no more things than it may have of any size.
func (s *Share) Grow(size int64) bool {
	if s == nil || s.room == nil {
		return true
	}
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	if s.count > s.least && !s.fits(size) {
		return false
	}
	s.used, s.room.used = s.used+size, s.room.used+size
	return true
}

// Wait takes room for a thing of a size, when there is some. It returns false if done is closed before.
func (s *Share) Wait(size int64, done <-chan struct{}) bool {
	for {
		changed := s.TryOr(size)
		if changed == nil {
			return true
		}
		select {
		case <-changed:
		case <-done:
			return false
		}
	}
}

// TryOr is Try that returns nil if it took room, and otherwise a channel that is closed when it is worth trying again.
func (s *Share) TryOr(size int64) <-chan struct{} {
	if s == nil || s.room == nil {
		return nil
	}
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.try(size) {
		return nil
	}
	if r.waiting == nil {
		r.waiting = make(chan struct{})
	}
	return r.waiting
}

// Take takes room for a thing of a size, also where there is none.
func (s *Share) Take(size int64) {
	if s == nil || s.room == nil {
		return
	}
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.used, s.room.used = s.used+size, s.room.used+size
	s.count++
}

// Leave gives back all that was taken for a thing.
func (s *Share) Leave(size int64) {
	if s == nil || s.room == nil {
		return
	}
	r := s.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.closed {
		return
	}
	s.count--
	s.free(size)
}

// Close gives back all that the share holds. What is given back later counts no more.
func (s *Share) Close() {
	if s == nil || s.room == nil {
		return
	}
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	s.closed = true
	s.free(s.used)
}

func (s *Share) free(size int64) {
	r := s.room
	s.used -= size
	r.used -= size
	if r.waiting != nil {
		close(r.waiting)
		r.waiting = nil
	}
}
