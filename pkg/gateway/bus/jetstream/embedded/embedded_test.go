package embedded

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
)

func TestADirectoryThatCannotBeUsedIsSaidAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Options{Dir: filepath.Join(file, "below")}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Start() = %v, want an error that names %s", err, file)
	}
}

func TestNoTemporaryDirectory(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "nowhere"))
	s, err := Start(Options{})
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "set TMPDIR to a directory that can be written, or keep events with --data DIR") {
		t.Errorf("Start() = %v, want what to do", err)
	}
}

func TestATemporaryDirectoryIsRemoved(t *testing.T) {
	s, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := s.temporary
	s.Close()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("after Close, Stat(%s) = %v, want that it does not exist", dir, err)
	}
}

// Who asks for no interval wants every event on disk before it is acknowledged.
func TestSyncInterval(t *testing.T) {
	alone := Options{Dir: t.TempDir()}
	member := alone
	member.Name, member.Host, member.Access = "m-0", "127.0.0.1", newAccess(t, "password")
	member.Cluster = &Cluster{Name: "c", Host: "127.0.0.1", Port: 1, Members: []string{"127.0.0.1:1"}}
	for _, tt := range []struct {
		name     string
		options  Options
		interval time.Duration
		always   bool
	}{
		{"no interval", alone, 0, true},
		{"a second", alone, time.Second, false},
		{"no interval, as a member of a cluster", member, 0, true},
		{"a second, as a member of a cluster", member, time.Second, false},
	} {
		tt.options.SyncInterval = tt.interval
		got, err := tt.options.settings(tt.options.Access)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got.SyncAlways != tt.always || got.SyncInterval != tt.interval {
			t.Errorf("%s: SyncAlways = %v, SyncInterval = %s, want %v, %s", tt.name, got.SyncAlways, got.SyncInterval, tt.always, tt.interval)
		}
	}
}

func newEvent(t testing.TB, id string, data []byte) *event.Event {
	t.Helper()
	var b event.Binary
	for name, value := range map[string]string{"specversion": "1.0", "id": id, "source": "/test", "type": "test"} {
		if err := b.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	e, err := b.Event("text/plain", data)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestADiskThatIsAlmostFull wants what is published to be refused before a write fails, what is there to be delivered, and all to go on when
// there is room.
func TestADiskThatIsAlmostFull(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 30)
	dir := t.TempDir()
	s, err := Start(Options{Dir: dir, SyncInterval: time.Minute, disk: func(string) (uint64, uint64, bool) { return free.Load(), 1 << 40, true }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := jetstream.New(t.Context(), jetstream.Options{
		Name: "b", InProcess: s, Trouble: s.Trouble, Config: plan.JetStream{Replicas: 1, AckWait: time.Second},
	})
	defer b.Close()
	letters := b.Topic(bus.Topic{Name: "openfunction.test.trigger.t.deadletter"}) // which are kept, whoever subscribes
	until := func(what string, enough func(error) bool) {
		t.Helper()
		var err error
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if err = letters.Handle(t.Context(), newEvent(t, strconv.FormatInt(time.Now().UnixNano(), 36), nil)); enough(err) {
				return
			}
		}
		t.Fatalf("%s: publish = %v", what, err)
	}
	taken := func(err error) bool { return err == nil }
	until("taken while there is room", taken)
	free.Store(keepFree - 1)
	until("refused for want of room", func(err error) bool {
		var away *event.Unavailable
		return errors.As(err, &away) && away.Full && strings.Contains(err.Error(), "its disk is full") && !strings.Contains(err.Error(), dir)
	})
	if err := errors.Join(s.Ready(), s.Alive()); err != nil {
		t.Errorf("the server is not ready: %v, want nil, since who receives makes room", err)
	}
	want := "the disk of " + dir + " is full, make room there: 65535 KiB are free, and the bus needs 65536 KiB to work"
	if err := b.Ready(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Ready() = %v, want %s", err, want)
	}
	free.Store(keepFree)
	if err := s.room(true); err == nil {
		t.Error("hardly any room is enough, want more than what there was too little of")
	}
	free.Store(keepFree * 2)
	until("taken when there is room again", taken)
	if err := b.Ready(); err != nil {
		t.Errorf("the bus is not ready: %v", err)
	}
}

// TestAServerDoesNotStartWithoutAStream wants a stream that cannot be read to be why a server does not start: without it, it would be made anew.
func TestAServerDoesNotStartWithoutAStream(t *testing.T) {
	dir := t.TempDir()
	start := func() (*Server, error) { return Start(Options{Dir: dir, SyncInterval: time.Minute}) }
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	b := jetstream.New(t.Context(), jetstream.Options{Name: "b", InProcess: s, Config: plan.JetStream{Replicas: 1, AckWait: time.Second}})
	letters := b.Topic(bus.Topic{Name: "openfunction.test.trigger.t.deadletter"})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err = letters.Handle(t.Context(), newEvent(t, "e", nil)); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	_ = b.Close()
	s.Close()
	found, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "openfunction-deadletters", "meta.inf"))
	if err != nil || len(found) != 1 {
		t.Fatalf("streams %q, %v, want one", found, err)
	}
	if err := errors.Join(os.Rename(found[0], found[0]+".aside"), os.Mkdir(found[0], 0o700)); err != nil {
		t.Fatal(err)
	}
	if s, err := start(); err == nil {
		s.Close()
		t.Error("the server starts, want why it cannot")
	} else if !strings.Contains(err.Error(), found[0]) {
		t.Errorf("Start() = %v, want what it cannot read", err)
	}
	if err := errors.Join(os.Remove(found[0]), os.Rename(found[0]+".aside", found[0])); err != nil {
		t.Fatal(err)
	}
	if s, err = start(); err != nil {
		t.Fatalf("when it can be read again: %v", err)
	}
	s.Close()
}

// TestAServerWhoseRoomIsFullRefuses wants what is published to be refused as too much for the bus, and not as a mistake of the publisher.
func TestAServerWhoseRoomIsFullRefuses(t *testing.T) {
	s, err := Start(Options{Dir: t.TempDir(), SyncInterval: time.Minute, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := jetstream.New(t.Context(), jetstream.Options{Name: "b", InProcess: s, Config: plan.JetStream{Replicas: 1, AckWait: time.Second}})
	defer b.Close()
	letters := b.Topic(bus.Topic{Name: "openfunction.test.trigger.t.deadletter"}) // which are kept, whoever subscribes
	data := make([]byte, 200<<10)
	var away *event.Unavailable
	for n, deadline := 0, time.Now().Add(30*time.Second); time.Now().Before(deadline) && n < 100; {
		err := letters.Handle(t.Context(), newEvent(t, strings.Repeat("x", n+1), data))
		switch {
		case err == nil:
			n++
		case !errors.As(err, &away):
			t.Fatalf("Handle() = %v, want *event.Unavailable", err)
		case away.Full:
			t.Logf("refused: %v", away)
			if n == 0 {
				t.Error("full before the first event")
			}
			return
		default:
			time.Sleep(10 * time.Millisecond) // not connected yet
		}
	}
	t.Errorf("never full; the last refusal is %v", away)
}

func TestAServerThatHasToWaitForTheMachineIsWell(t *testing.T) {
	s, err := Start(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ctx, cancel := context.WithCancel(t.Context())
	var hogs, looks sync.WaitGroup
	defer hogs.Wait()
	defer cancel()
	for range 4 * runtime.GOMAXPROCS(0) {
		hogs.Go(func() {
			for ctx.Err() == nil {
			}
		})
	}
	var ill atomic.Pointer[error]
	for range 8 {
		looks.Go(func() {
			for n := 0; n < 10_000 && ill.Load() == nil; n++ {
				err := s.Alive()
				if err == nil && n%100 == 0 {
					err = s.Ready()
				}
				if err != nil {
					ill.Store(&err)
				}
			}
		})
	}
	looks.Wait()
	if err := ill.Load(); err != nil {
		t.Errorf("a server that nothing is wrong with says %v", *err)
	}
}
