package room

import (
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"testing"
)

func TestThereIsRoomForWhoComesNext(t *testing.T) {
	const size = 1 << 20
	r := New(size)
	free := int64(size)
	for n := range 10 {
		s := r.Share(0, 1)
		var held int64
		for s.Try(16) {
			held += 16
		}
		if want := free / 2; held < want-64 || held > want+64 {
			t.Errorf("user %d got %d of the %d that are free, want half", n, held, free)
		}
		free -= held
	}
}

func TestWhatIsAlwaysGiven(t *testing.T) {
	r := New(100)
	for full := r.Share(1000, 1); r.used < 100; {
		if !full.Try(10) {
			t.Fatal("below its floor there is no room")
		}
	}
	for _, tt := range []struct {
		name  string
		floor int64
		least int
		size  int64
		want  int
	}{
		{"one thing of any size", 0, 0, 1000, 1},
		{"the least number of things of any size", 0, 3, 1000, 3},
		{"what is below the floor", 50, 1, 10, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := r.Share(tt.floor, tt.least)
			defer s.Close()
			for n := range tt.want {
				if !s.Try(tt.size) {
					t.Fatalf("there is no room for number %d, want it for %d", n+1, tt.want)
				}
			}
			if s.Try(tt.size) {
				t.Errorf("there is room for number %d, want it for %d", tt.want+1, tt.want)
			}
		})
	}
}

func TestWhatIsTakenCountsAlsoWithoutRoom(t *testing.T) {
	r := New(100)
	taking, other := r.Share(0, 1), r.Share(0, 1)
	taking.Take(150)
	taking.Take(50)
	if !other.Try(10) || other.Try(10) {
		t.Error("another has room for more than its least")
	}
	taking.Leave(150)
	if other.Try(40) {
		t.Error("another has room for all 40 that are free")
	}
	taking.Leave(50)
	if !other.Try(40) || r.used != 50 {
		t.Errorf("%d are used, want 50", r.used)
	}
}

func TestAThingGrows(t *testing.T) {
	r := New(100)
	s := r.Share(0, 1)
	if !s.Try(40) || !s.Grow(1000) {
		t.Error("the only thing of a share does not grow as it likes")
	}
	s.Leave(1040)
	for range 2 {
		if !s.Try(20) {
			t.Fatal("there is no room")
		}
	}
	if !s.Grow(5) || s.Grow(40) {
		t.Error("one of several does not grow to what is free, or beyond")
	}
	s.Leave(25)
	s.Leave(20)
	if r.used != 0 || s.count != 0 {
		t.Errorf("%d are used by %d, want nothing", r.used, s.count)
	}
}

// TestWait has many users with things of all sizes: none waits for ever, and in the end all is free.
func TestWait(t *testing.T) {
	r := New(1000)
	var users sync.WaitGroup
	for n := range 20 {
		users.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(n)))
			s := r.Share(0, 1)
			defer s.Close()
			var things sync.WaitGroup
			defer things.Wait()
			for range 500 {
				size := random.Int64N(300)
				if !s.Wait(size, t.Context().Done()) {
					t.Error("Wait() = false, want true")
				}
				things.Go(func() { s.Leave(size) })
			}
		})
	}
	users.Wait()
	if r.used != 0 {
		t.Errorf("%d are used, want 0", r.used)
	}
	s, done := r.Share(0, 1), make(chan struct{})
	s.Try(1000)
	close(done)
	if s.Wait(1, done) {
		t.Error("Wait() = true with no room and done closed, want false")
	}
	s.Close()
	s.Leave(1000)
	if r.used != 0 {
		t.Errorf("%d are used, want 0: what is left after Close counts no more", r.used)
	}
}

func TestWithoutARoomThereAreNoBounds(t *testing.T) {
	var none *Share
	for _, s := range []*Share{none, (*Room)(nil).Share(0, 0)} {
		if !s.Try(1<<60) || !s.Wait(1<<60, nil) || !s.Grow(1<<60) {
			t.Error("there is no room, want it without bounds")
		}
		s.Leave(1 << 60)
		s.Close()
	}
}

func TestMemory(t *testing.T) {
	if got, want := Memory(0.25), int64(256<<20); got != want {
		t.Errorf("Memory() = %d without a limit, want %d", got, want)
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(200 << 20))
	if got, want := Memory(0.25), int64(50<<20); got != want {
		t.Errorf("Memory() = %d with a limit, want %d", got, want)
	}
}
