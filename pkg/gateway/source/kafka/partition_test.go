package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
)

// claim is a partition that a test feeds.
type claim struct {
	messages chan *sarama.ConsumerMessage
	stop     context.CancelFunc
	done     chan struct{}

	mu     sync.Mutex
	marked int64
}

func read(t *testing.T, next event.Handler) *claim {
	t.Helper()
	return readWith(t, zap.NewNop(), next)
}

func readWith(t *testing.T, log *zap.Logger, next event.Handler) *claim {
	t.Helper()
	return readOf(t, &run{Source: New(options("t")), log: log.Sugar(), handover: source.Handover{Next: next, Log: log.Sugar()}})
}

func readOf(t *testing.T, r *run) *claim {
	t.Helper()
	c := &claim{messages: make(chan *sarama.ConsumerMessage), done: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	p := newPartition(r, func(offset int64) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if offset <= c.marked {
			t.Errorf("marked %d after %d", offset, c.marked)
		}
		c.marked = offset
	})
	go func() {
		defer close(c.done)
		p.read(ctx, c.messages)
	}()
	t.Cleanup(func() { stop(); <-c.done })
	return c
}

func (c *claim) mark() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.marked
}

func (c *claim) send(offset int64, key, value string) {
	m := &sarama.ConsumerMessage{Topic: "t", Offset: offset, Value: []byte(value)}
	if key != "" {
		m.Key = []byte(key)
	}
	c.messages <- m
}

func TestRecordsOfAKeyAreHandledInOrderAndKeysAtOnce(t *testing.T) {
	const keys, each = 20, 50
	var mu sync.Mutex
	busy, most := map[string]bool{}, 0
	s := &runtest.Sink{Refuse: func(data string) error {
		key, _, _ := strings.Cut(data, "-")
		mu.Lock()
		if busy[key] {
			t.Errorf("two records of key %s at once", key)
		}
		busy[key] = true
		most = max(most, len(busy))
		mu.Unlock()
		defer func() {
			mu.Lock()
			delete(busy, key)
			mu.Unlock()
		}()
		return nil
	}}
	c := read(t, s)
	for i := range int64(keys * each) {
		key := fmt.Sprint(i % keys)
		c.send(i, key, fmt.Sprintf("%s-%03d", key, i/keys))
	}
	runtest.Eventually(t, "all are marked", func() bool { return c.mark() == keys*each })
	byKey := map[string][]string{}
	for _, data := range s.Data() {
		key, _, _ := strings.Cut(data, "-")
		byKey[key] = append(byKey[key], data)
	}
	for key, got := range byKey {
		if len(got) != each || !slices.IsSorted(got) {
			t.Errorf("key %s was handled in the order %v", key, got)
		}
	}
}

func TestRecordsWithoutAKeyAreHandledAtOnce(t *testing.T) {
	var all sync.WaitGroup
	all.Add(maxInFlight)
	c := read(t, event.HandlerFunc(func(context.Context, *event.Event) error {
		all.Done()
		all.Wait() // returns when all of them are here
		return nil
	}))
	for i := range int64(maxInFlight) {
		c.send(i, "", "x")
	}
	runtest.Eventually(t, "all are marked", func() bool { return c.mark() == maxInFlight })
}

func TestMarkStaysBeforeWhatIsNotDone(t *testing.T) {
	release := make(chan struct{})
	s := &runtest.Sink{Refuse: func(data string) error {
		if data == "slow" {
			<-release
		}
		return nil
	}}
	c := read(t, s)
	c.send(10, "a", "first")
	c.send(11, "b", "slow")
	c.send(12, "b", "behind")
	c.send(15, "c", "last") // a compacted topic has gaps
	s.Await(t, "first", "last")
	runtest.Eventually(t, "the first is marked", func() bool { return c.mark() == 11 })
	if s.Count("behind") != 0 {
		t.Error("the record behind the slow one of its key was handled before it")
	}
	close(release)
	runtest.Eventually(t, "all are marked", func() bool { return c.mark() == 16 })
}

func TestAFailingRecordIsTriedUntilItIsTaken(t *testing.T) {
	for name, err := range map[string]error{
		"an error":                            errors.New("boom"),
		"a stage that is away":                &event.Unavailable{What: "bus"},
		"a dead letter that is not taken now": errors.Join(&event.Unavailable{What: "bus"}, event.Permanent(errors.New("boom"))),
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			tries := 0
			s := &runtest.Sink{Refuse: func(data string) error {
				mu.Lock()
				defer mu.Unlock()
				if data != "bad" {
					return nil
				}
				if tries++; tries < 3 {
					return err
				}
				return nil
			}}
			c := read(t, s)
			c.send(0, "k", "bad")
			c.send(1, "k", "same key")
			c.send(2, "other", "other key")
			s.Await(t, "other key")
			if c.mark() != 0 {
				t.Errorf("marked %d while the first record is not done", c.mark())
			}
			runtest.Eventually(t, "all are marked", func() bool { return c.mark() == 3 })
			if got, want := s.Data()[len(s.Data())-2:], []string{"bad", "same key"}; !slices.Equal(got, want) {
				t.Errorf("order of the key = %v, want %v", got, want)
			}
		})
	}
}

// What nobody will ever take holds up neither its key nor the commit. It is still where it was, and the log says where.
// The records that were not taken go to another member, which says nothing here of what becomes of them.
func TestAnOutageAfterARebalanceIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		var away atomic.Bool
		away.Store(true)
		s := &runtest.Sink{Refuse: func(string) error {
			if away.Load() {
				return errors.New("boom")
			}
			return nil
		}}
		r := &run{Source: New(options("t")), handover: source.Handover{Next: s, Log: zap.New(core).Sugar()}}
		wants := func(refused, taken int) {
			t.Helper()
			synctest.Wait()
			got := []int{logs.FilterMessage("event is not taken, trying again").Len(), logs.FilterMessage("events are taken again").Len()}
			if want := []int{refused, taken}; !slices.Equal(got, want) {
				t.Errorf("it was said %v times that events are not taken, and are again, want %v", got, want)
			}
		}
		c := readOf(t, r)
		c.send(1, "a", "first")
		c.send(2, "b", "second")
		wants(1, 0)
		c.stop()
		<-c.done
		c = readOf(t, r)
		away.Store(false)
		c.send(3, "a", "third")
		wants(1, 0)
		time.Sleep(time.Hour)
		away.Store(true)
		c.send(4, "a", "fourth")
		wants(2, 0)
		away.Store(false)
		time.Sleep(time.Hour)
		wants(2, 1)
		c.stop()
		<-c.done
	})
}

func TestARecordThatIsRefusedForGoodIsLeftBehind(t *testing.T) {
	core, logs := observer.New(zapcore.ErrorLevel)
	s := &runtest.Sink{Refuse: func(data string) error {
		if data == "bad" {
			return event.Permanent(errors.New("boom"))
		}
		return nil
	}}
	c := readWith(t, zap.New(core), s)
	c.send(0, "k", "bad")
	c.send(1, "k", "same key")
	c.send(2, "other", "other key")
	s.Await(t, "same key", "other key")
	runtest.Eventually(t, "all are marked", func() bool { return c.mark() == 3 })
	if s.Count("bad") != 0 {
		t.Error("the record was taken")
	}
	all := logs.All()
	if len(all) != 1 || all[0].ContextMap()["offset"] != int64(0) || all[0].ContextMap()["error"] != "boom" {
		t.Errorf("log has %v, want one error that says which record and why", all)
	}
}

func TestReadingStopsAtItsBounds(t *testing.T) {
	tests := []struct {
		name string
		key  func(i int) string
		want int
	}{
		{"records in flight", func(int) string { return "k" }, maxInFlight},
		{"records ahead of the first that is not done", func(i int) string { return fmt.Sprint(i) }, maxAhead},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			release := make(chan struct{})
			s := &runtest.Sink{Refuse: func(data string) error {
				if data == "0" {
					<-release
				}
				return nil
			}}
			c := read(t, s)
			for i := range tt.want {
				c.send(int64(i), tt.key(i), fmt.Sprint(i))
			}
			more := &sarama.ConsumerMessage{Offset: int64(tt.want), Value: []byte("more")}
			select {
			case c.messages <- more:
				t.Fatalf("took more than %d records", tt.want)
			case <-time.After(20 * time.Millisecond):
			}
			close(release)
			c.messages <- more
			runtest.Eventually(t, "all are marked", func() bool { return c.mark() == int64(tt.want)+1 })
		})
	}
}

func TestStopBeginsNothingAndMarksWhatEnds(t *testing.T) {
	running, release := make(chan struct{}), make(chan struct{})
	s := &runtest.Sink{Refuse: func(data string) error {
		switch data {
		case "running":
			close(running)
			<-release
		case "failing":
			return errors.New("boom")
		}
		return nil
	}}
	c := read(t, s)
	c.send(0, "a", "running")
	c.send(1, "a", "waiting")
	c.send(2, "b", "failing")
	<-running
	c.stop()
	close(release)
	<-c.done
	if got, want := s.Data(), []string{"running"}; !slices.Equal(got, want) {
		t.Errorf("handled %v, want %v", got, want)
	}
	if got := c.mark(); got != 1 {
		t.Errorf("marked %d, want 1", got)
	}
}
