package embedded

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
)

const waitingTopic = "openfunction.test.es.e"

// subscribed runs a subscription that takes events only if it may, until the function that it returns is called.
func subscribed(t *testing.T, s *Server, take bool) (b *jetstream.Bus, taken *atomic.Int64, stop func()) {
	t.Helper()
	b = jetstream.New(t.Context(), jetstream.Options{
		Name: "b", InProcess: s, Trouble: s.Trouble, Config: plan.JetStream{Replicas: 1, AckWait: time.Second},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended, once := make(chan struct{}), make(chan error, 1), sync.Once{}
	taken = &atomic.Int64{}
	go func() {
		ended <- b.Subscribe(ctx, bus.Subscription{
			Name: "waits", Topics: []string{waitingTopic}, Grace: time.Millisecond,
			Ready: func(err error) {
				if err == nil {
					once.Do(func() { close(ready) })
				}
			},
		}, func(m *bus.Message) {
			if take {
				taken.Add(1)
				m.Done(nil)
			}
		})
	}()
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("the subscription is not ready within a minute")
	}
	return b, taken, func() {
		cancel()
		<-ended
		_ = b.Close()
	}
}

// waiting returns a directory where a server, which runs, has 100 events that wait.
func waiting(t *testing.T) (dir string, s *Server, stop func()) {
	t.Helper()
	dir = t.TempDir()
	s, err := Start(Options{Dir: dir, SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	b, _, stop := subscribed(t, s, false)
	topic := b.Topic(bus.Topic{Name: waitingTopic})
	for i := range 100 {
		if err := topic.Handle(t.Context(), newEvent(t, "e"+strconv.Itoa(i), make([]byte, 500))); err != nil {
			t.Fatal(err)
		}
	}
	return dir, s, stop
}

func only(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "jetstream", "$G", "streams", "openfunction-events", pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q, %v, want one", pattern, found, err)
	}
	return found[0]
}

func overwrite(t *testing.T, path string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("?", n)), at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestADamagedDirectoryIsRefused wants everything of which events would be lost in silence to be why a server does not start.
func TestADamagedDirectoryIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   string
		// unreadable is why the server does not start with what is left either.
		unreadable string
	}{
		{"garbage in the events", func(t *testing.T, dir string) { overwrite(t, only(t, dir, "msgs/*.blk"), 20000, 5000) }, ".blk: was changed by something else than the bus", ""},
		{"events cut off", func(t *testing.T, dir string) { check(t, os.Truncate(only(t, dir, "msgs/*.blk"), 20000)) }, ".blk: has 20000 bytes, it had ", ""},
		{"no settings of the stream", func(t *testing.T, dir string) { check(t, os.Remove(only(t, dir, "meta.inf"))) }, "openfunction-events: the stream is missing", ""},
		{"garbage in the settings of the stream", func(t *testing.T, dir string) { overwrite(t, only(t, dir, "meta.inf"), 0, 10) }, "meta.inf: was changed", "checksums do not match"},
		{"no events", func(t *testing.T, dir string) { check(t, os.RemoveAll(only(t, dir, "msgs"))) }, "openfunction-events/msgs: its events are missing", ""},
		{"no subscription", func(t *testing.T, dir string) { check(t, os.RemoveAll(only(t, dir, "obs/waits"))) }, "openfunction-events/obs/waits: the subscription is missing", ""},
		{"not what a subscription has taken", func(t *testing.T, dir string) { check(t, os.Remove(only(t, dir, "obs/waits/o.dat"))) }, "obs/waits/o.dat: is missing", ""},
		{"nothing at all", func(t *testing.T, dir string) { check(t, os.RemoveAll(filepath.Join(dir, "jetstream"))) }, "the stream is missing", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, s, stop := waiting(t)
			stop()
			s.Close()
			copied := filepath.Join(t.TempDir(), "copy")
			check(t, os.CopyFS(copied, os.DirFS(dir)))
			tt.damage(t, dir)
			for range 2 { // It does not start the second time either.
				s, err := Start(Options{Dir: dir, SyncInterval: time.Minute})
				if err == nil {
					s.Close()
					t.Fatal("the server starts, want why it does not")
				}
				for _, want := range []string{tt.want, "100 events", dir, contentsName} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("Start() = %v\nwant %q in it", err, want)
					}
				}
			}
			s, err := Start(Options{Dir: copied, SyncInterval: time.Minute})
			if err != nil {
				t.Fatalf("a copy: %v", err)
			}
			defer s.Close()
			_, taken, stop := subscribed(t, s, true)
			defer stop()
			eventually(t, "all 100 events of the copy come", func() bool { return taken.Load() == 100 })
			check(t, os.Remove(filepath.Join(dir, contentsName)))
			left, err := Start(Options{Dir: dir, SyncInterval: time.Minute})
			if err == nil {
				left.Close()
			}
			if text := fmt.Sprint(err); !strings.Contains(text, cmp.Or(tt.unreadable, "nil")) {
				t.Errorf("with what is left: %v, want %q", err, tt.unreadable)
			}
		})
	}
}

// TestWhatASubscriptionHasTakenMayBeOlder wants a server to start with it, since that costs no event: a slow disk may have it a moment after the
// server has ended. But not if it cannot be read.
func TestWhatASubscriptionHasTakenMayBeOlder(t *testing.T) {
	dir, s, stop := waiting(t)
	stop()
	s.Close()
	older, err := os.ReadFile(only(t, dir, "obs/waits/o.dat"))
	check(t, err)
	start := func() (*Server, error) {
		return Start(Options{Dir: dir, SyncInterval: time.Minute, Damaged: func(err error) { t.Errorf("damaged: %v", err) }})
	}
	s, err = start()
	check(t, err)
	_, taken, stop := subscribed(t, s, true)
	eventually(t, "all events come", func() bool { return taken.Load() == 100 })
	stop()
	s.Close()
	newer, err := os.ReadFile(only(t, dir, "obs/waits/o.dat"))
	check(t, err)
	if bytes.Equal(older, newer) {
		t.Fatal("the file is the same, want one that has changed")
	}
	check(t, os.WriteFile(only(t, dir, "obs/waits/o.dat"), older, 0o600))
	s, err = start()
	check(t, err)
	b, taken, stop := subscribed(t, s, true)
	check(t, b.Topic(bus.Topic{Name: waitingTopic}).Handle(t.Context(), newEvent(t, "one more", nil)))
	eventually(t, "one more event comes", func() bool { return taken.Load() > 0 })
	stop()
	s.Close()
	overwrite(t, only(t, dir, "obs/waits/o.dat"), 0, 4)
	if s, err = start(); err == nil {
		s.Close()
	}
	if text := fmt.Sprint(err); !strings.Contains(text, "corrupt state file") {
		t.Errorf("with garbage: %v, want that it is corrupt", err)
	}
}

// TestASubscriptionThatIsDeletedAtTheEnd wants one that a client deletes while the server ends not to be missed, but one that was removed by
// something else before.
func TestASubscriptionThatIsDeletedAtTheEnd(t *testing.T) {
	dir, s, stop := waiting(t)
	before, left := s.settled(), has(s.running.Load(), nil)
	stop()
	s.Close()
	check(t, os.RemoveAll(only(t, dir, "obs/waits")))
	missing := maps.Clone(before)
	delete(missing, "openfunction-events/obs/waits/meta.inf")
	for _, tt := range []struct {
		before map[string]bool
		want   string
	}{
		{missing, "obs/waits: the subscription is missing"},
		{before, "<nil>"},
	} {
		s.leave(left, tt.before)
		next, err := Start(Options{Dir: dir, SyncInterval: time.Minute, Damaged: func(err error) { t.Errorf("damaged: %v", err) }})
		if err == nil {
			next.Close()
		}
		if text := fmt.Sprint(err); !strings.Contains(text, tt.want) {
			t.Errorf("Start() = %s, want %s", text, tt.want)
		}
	}
}

// TestKnownSubscriptionsAreNotAskedFor wants a look at a server to take as long with many subscriptions as with few, and all the same to see them
// come and go.
func TestKnownSubscriptionsAreNotAskedFor(t *testing.T) {
	s, err := Start(Options{Dir: t.TempDir(), SyncInterval: time.Minute})
	check(t, err)
	defer s.Close()
	conn, err := nats.Connect("", nats.InProcessServer(s))
	check(t, err)
	defer conn.Close()
	js, err := natsjs.New(conn)
	check(t, err)
	_, err = js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "s", Subjects: []string{"x"}})
	check(t, err)
	var known *contents
	for _, tt := range []struct {
		change func() error
		want   []string
	}{
		{func() error { return nil }, nil},
		{func() error { return subscribe(t, js, "a") }, []string{"a"}},
		{func() error { return errors.Join(js.DeleteConsumer(t.Context(), "s", "a"), subscribe(t, js, "b")) }, []string{"b"}},
		{func() error { return js.DeleteConsumer(t.Context(), "s", "b") }, nil},
	} {
		check(t, tt.change())
		known = has(s.running.Load(), known)
		if got := known.Streams["s"].Subscriptions; !slices.Equal(got, tt.want) {
			t.Errorf("it has %q, want %q", got, tt.want)
		}
		_, err := js.Publish(t.Context(), "x", nil)
		check(t, err)
		pretended := &contents{names: known.names, Streams: map[string]stream{"s": {Subscriptions: []string{"pretended"}}}}
		want := stream{Messages: known.Streams["s"].Messages + 1, Last: known.Streams["s"].Last + 1, Subscriptions: []string{"pretended"}}
		if got := has(s.running.Load(), pretended).Streams["s"]; !got.equal(want) {
			t.Errorf("with nothing new but an event it has %+v, want %+v", got, want)
		}
	}
}

func subscribe(t *testing.T, js natsjs.JetStream, name string) error {
	_, err := js.CreateConsumer(t.Context(), "s", natsjs.ConsumerConfig{Durable: name})
	return err
}

func eventually(t *testing.T, what string, enough func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !enough(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// crashed returns a copy of the directory as it is while the server runs, which is what a crash leaves.
func crashed(t *testing.T, dir string) string {
	t.Helper()
	eventually(t, "what waits is noted", func() bool {
		data, err := os.ReadFile(filepath.Join(dir, contentsName))
		return err == nil && strings.Contains(string(data), `"last":100,"subscriptions":["waits"]`)
	})
	var copied string
	eventually(t, "a copy is made", func() bool { // of which no file goes away meanwhile
		copied = filepath.Join(t.TempDir(), "copy")
		return os.CopyFS(copied, os.DirFS(dir)) == nil
	})
	return copied
}

// TestWhatACrashLeaves wants a server to start with what a crash has left, and to say what of that is gone.
func TestWhatACrashLeaves(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   string // empty: nothing is said
	}{
		{"nothing is gone", func(*testing.T, string) {}, ""},
		{"a subscription is gone", func(t *testing.T, dir string) { check(t, os.RemoveAll(only(t, dir, "obs/waits"))) }, "obs/waits: the subscription is missing"},
		{"garbage in the events", func(t *testing.T, dir string) { overwrite(t, only(t, dir, "msgs/*.blk"), 20000, 5000) }, "the newest events of the stream openfunction-events are lost, "},
		{"an event that was not acknowledged is there in part", func(t *testing.T, dir string) {
			f, err := os.OpenFile(only(t, dir, "msgs/*.blk"), os.O_APPEND|os.O_WRONLY, 0)
			check(t, err)
			_, err = f.WriteString("part of an event")
			check(t, errors.Join(err, f.Close()))
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, s, stop := waiting(t)
			dir = crashed(t, dir)
			stop()
			s.Close()
			tt.damage(t, dir)
			var said []string
			s, err := Start(Options{Dir: dir, SyncInterval: time.Minute, Damaged: func(err error) { said = append(said, err.Error()) }})
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			switch {
			case tt.want == "" && len(said) > 0:
				t.Errorf("it says %q, want nothing", said)
			case tt.want != "" && !strings.Contains(strings.Join(said, "\n"), tt.want):
				t.Errorf("it says %q, want %q", said, tt.want)
			}
		})
	}
}

// TestWhatACrashLeavesHalfWritten wants a server not to start when it would go on without what waits in it, and to say
// what is lost where it starts.
func TestWhatACrashLeavesHalfWritten(t *testing.T) {
	for _, tt := range []struct {
		file  string
		half  bool   // else it is empty
		gone  bool   // else it is there
		noted string // what contents.json has instead of what it had; "gone" if it is
		want  string // in why the server does not start; empty if it does
		says  string // else
	}{
		{file: "obs/waits/o.dat", want: "obs/waits/o.dat: is empty: restore "},
		{file: "obs/waits/o.dat", half: true, want: "waits"},
		{file: "obs/waits/o.dat", gone: true, want: "obs/waits/o.dat: is missing: restore "},
		{file: "obs/waits/o.dat", gone: true, noted: "\x00", want: "obs/waits/o.dat: is missing: restore "},
		{file: "obs/waits/o.dat", gone: true, noted: "gone", says: "obs/waits/o.dat: is missing: events may have waited"},
		{file: "obs/waits/o.dat", gone: true, noted: `{"streams":{"openfunction-events":{}}}`, says: "obs/waits/o.dat: is missing: events may have waited"},
		{file: "obs/waits/meta.inf", want: "waits"},
		{file: "obs/waits/meta.inf", half: true, want: "waits"},
		{file: "obs/waits/meta.sum", gone: true, says: "obs/waits: the subscription is missing"},
		{file: "obs/waits/meta.sum", gone: true, noted: "\x00", says: "obs/waits: the subscription is missing"},
		{file: "obs/waits/meta.sum", gone: true, noted: "gone", says: "obs/waits: the subscription is missing"},
		{file: "meta.inf", want: "openfunction-events"},
		{file: "meta.inf", half: true, want: "openfunction-events"},
		{file: "meta.sum", want: "openfunction-events"},
		{file: "meta.sum", gone: true, want: "openfunction-events/meta.sum: is missing: restore "},
		{file: "meta.sum", gone: true, noted: "\x00", want: "openfunction-events/meta.sum: is missing: restore "},
		{file: "meta.sum", gone: true, noted: "gone", want: "openfunction-events/meta.sum: is missing: restore "},
		{file: "msgs/*.blk", half: true, says: "the newest events of the stream openfunction-events are lost"},
		{file: "msgs/*.blk", says: "the newest events of the stream openfunction-events are lost"},
	} {
		t.Run(fmt.Sprintf("%s half %t gone %t %s", tt.file, tt.half, tt.gone, tt.noted), func(t *testing.T) {
			t.Parallel()
			dir, s, stop := waiting(t)
			dir = crashed(t, dir)
			stop()
			s.Close()
			file := only(t, dir, tt.file)
			info, err := os.Stat(file)
			check(t, err)
			switch {
			case tt.gone:
				check(t, os.Remove(file))
			case tt.half:
				check(t, os.Truncate(file, info.Size()/2))
			default:
				check(t, os.Truncate(file, 0))
			}
			switch tt.noted {
			case "":
			case "gone":
				check(t, os.Remove(filepath.Join(dir, contentsName)))
			default:
				check(t, os.WriteFile(filepath.Join(dir, contentsName), []byte(tt.noted), 0o600))
			}
			var said []string
			s, err = Start(Options{Dir: dir, SyncInterval: time.Minute, Damaged: func(err error) { said = append(said, err.Error()) }})
			if err == nil {
				s.Close()
			}
			t.Logf("Start() = %v, %q", err, said)
			if text := fmt.Sprint(err); !strings.Contains(text, cmp.Or(tt.want, "nil")) || err != nil && !strings.Contains(text, dir) {
				t.Errorf("Start() = %v, want %q in it", err, cmp.Or(tt.want, "nil"))
			}
			if !strings.Contains(strings.Join(said, "\n"), tt.says) {
				t.Errorf("it says %q, want %q", said, tt.says)
			}
		})
	}
}

// TestAMemberStartsWithoutWhatItHad wants a member that lost its disk, or a part of it, to start: it gets what it lacks from the others.
func TestAMemberStartsWithoutWhatItHad(t *testing.T) {
	dir, s, stop := waiting(t)
	stop()
	s.Close()
	check(t, os.RemoveAll(filepath.Join(dir, "jetstream")))
	var said atomic.Pointer[string]
	s, err := Start(Options{
		Dir: dir, Name: "m-0", Host: "127.0.0.1", Access: newAccess(t, "password"), Cluster: &Cluster{Name: "c", Host: "127.0.0.1", Port: -1, Members: []string{"127.0.0.1:1"}},
		Damaged: func(err error) { text := err.Error(); said.Store(&text) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if said.Load() == nil || !strings.Contains(*said.Load(), "the stream is missing") {
		t.Errorf("it says %v, want what it lacks", said.Load())
	}
}

// TestARemovedDirectoryIsTrouble wants events to be refused as soon as there is no place for them any more.
func TestARemovedDirectoryIsTrouble(t *testing.T) {
	dir, s, stop := waiting(t)
	defer stop()
	defer s.Close()
	check(t, os.RemoveAll(dir))
	eventually(t, "the server is in trouble", func() bool { return s.Trouble() != nil })
	if err := s.Trouble(); !strings.Contains(err.Error(), dir+": was removed while the bus used it") {
		t.Errorf("Trouble() = %v, want that it was removed", err)
	}
	b := jetstream.New(t.Context(), jetstream.Options{Name: "b", InProcess: s, Trouble: s.Trouble, Config: plan.JetStream{Replicas: 1, AckWait: time.Second}})
	defer b.Close()
	var away *event.Unavailable
	topic := b.Topic(bus.Topic{Name: waitingTopic})
	eventually(t, "events are refused", func() bool { return errors.As(topic.Handle(t.Context(), newEvent(t, "late", nil)), &away) })
	if err := s.Alive(); err == nil {
		t.Error("the server is alive, want that it has to start again")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("Stat(%s) = %v, want that nothing is made there", dir, err)
	}
}

// TestWhatAServerLeavesIsWhatTheNextFinds ends servers in the middle of their work: what they write down has to be what they leave.
func TestWhatAServerLeavesIsWhatTheNextFinds(t *testing.T) {
	dir := t.TempDir()
	for range 6 {
		s, err := Start(Options{Dir: dir, SyncInterval: time.Minute, Damaged: func(err error) { t.Errorf("damaged: %v", err) }})
		if err != nil {
			t.Fatal(err)
		}
		b, taken, stop := subscribed(t, s, true)
		topic := b.Topic(bus.Topic{Name: waitingTopic})
		var publishing sync.WaitGroup
		for range 4 {
			publishing.Go(func() {
				for topic.Handle(t.Context(), newEvent(t, strconv.FormatInt(time.Now().UnixNano(), 36), make([]byte, 2000))) == nil {
				}
			})
		}
		eventually(t, "events flow", func() bool { return taken.Load() > 200 })
		s.Close()
		publishing.Wait()
		stop()
	}
}
