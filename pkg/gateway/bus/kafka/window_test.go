package kafka

import (
	"math/rand/v2"
	"sync"
	"testing"
)

func isIn(turn chan struct{}) bool {
	select {
	case <-turn:
		return true
	default:
		return turn == nil
	}
}

func TestPartitionsThatTakeNothingLeaveRoom(t *testing.T) {
	w := newWindow(1024)
	var got []int
	for id := range int32(12) {
		for n := 0; ; n++ {
			if turn := w.enter(place{"t", id}); turn != nil {
				w.abandon(place{"t", id}, turn)
				got = append(got, n)
				break
			}
		}
	}
	for i, want := range []int{512, 256, 128, 64, 32, 16, 8, 4, 2, 1, 1, 1} {
		if got[i] != want {
			t.Fatalf("partitions that take nothing have %v, want half of what is free and at least one: %d", got, want)
		}
	}
	if len(w.waiting) != 0 {
		t.Errorf("%d partitions are waited for, want none", len(w.waiting))
	}
}

func TestTheFirstIsLetInFirst(t *testing.T) {
	w := newWindow(4) // two of one partition
	at := place{"t", 0}
	var turns []chan struct{}
	for range 6 {
		turns = append(turns, w.enter(at))
	}
	w.abandon(at, turns[3])
	for i, want := range [][]bool{{true, true, false, false, false}, {true, true, true, false, false}, {true, true, true, true, false}, {true, true, true, true, true}} {
		if i > 0 {
			w.leave(at)
		}
		for n, turn := range []int{0, 1, 2, 4, 5} {
			if got := isIn(turns[turn]); got != want[n] {
				t.Errorf("after %d have left, number %d is in: %v, want %v", i, turn, got, want[n])
			}
		}
	}
	w.abandon(at, turns[5]) // it was let in at the same moment
	w.leave(at)
	if w.free != 4 || w.lanes[at].used != 0 {
		t.Errorf("%d of 4 are free, want all", w.free)
	}
}

// Room that one partition makes is for those who wait for another, too.
func TestRoomIsForAll(t *testing.T) {
	w := newWindow(4)
	a, b := place{"t", 0}, place{"t", 1}
	w.enter(a)
	w.enter(a)
	w.enter(b)
	turn := w.enter(b)
	if isIn(turn) {
		t.Fatal("there is room for two of each")
	}
	w.leave(a)
	if !isIn(turn) {
		t.Error("who waits for a partition is not let in when another has made room")
	}
}

func TestAWindowThatManyUse(t *testing.T) {
	w := newWindow(16)
	var all sync.WaitGroup
	for n := range 64 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(n)))
			for range 500 {
				at := place{"t", random.Int32N(5)}
				if turn := w.enter(at); turn != nil && random.IntN(3) == 0 {
					w.abandon(at, turn)
					continue
				} else if turn != nil {
					<-turn
				}
				w.leave(at)
			}
		})
	}
	all.Wait()
	if w.free != 16 || len(w.waiting) != 0 {
		t.Errorf("%d of 16 are free and %d partitions are waited for, want all and none", w.free, len(w.waiting))
	}
}
