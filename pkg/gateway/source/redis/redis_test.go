package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	miniserver "github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sync/semaphore"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/pkg/gateway/source/sourcetest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

var noNotifications = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}

// server starts a miniredis whose clock goes: by itself it lets no key expire.
func server(t *testing.T) (*miniredis.Miniredis, *redis.Client) {
	t.Helper()
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr(servers.FreeAddress(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	stop := make(chan struct{})
	var clock sync.WaitGroup
	clock.Go(func() {
		const tick = 50 * time.Millisecond
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				m.FastForward(tick)
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		clock.Wait()
	})
	c := redis.NewClient(&redis.Options{Addr: m.Addr(), MaintNotificationsConfig: noNotifications})
	t.Cleanup(func() { _ = c.Close() })
	return m, c
}

// restart brings a closed server back. Commands that wait would never be answered without a new context.
func restart(t testing.TB, m *miniredis.Miniredis) {
	t.Helper()
	m.Ctx, m.CtxCancel = context.WithCancel(context.Background())
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	for _, way := range []string{"stream", "list", "channel"} { // a pattern is like a channel: see the suite against real servers
		t.Run(way, func(t *testing.T) {
			m, _ := server(t)
			m.RequireAuth("s3cret")
			c := redis.NewClient(&redis.Options{Addr: m.Addr(), Password: "s3cret", MaintNotificationsConfig: noNotifications})
			t.Cleanup(func() { _ = c.Close() })
			f := fixture(way, c, plan.Redis{
				Addresses: []string{m.Addr()}, Password: "s3cret", RedeliverInterval: 200 * time.Millisecond, ProcessingTimeout: 3 * time.Second,
			})
			f.Stop = func(testing.TB) { m.Close() }
			f.Start = func(t testing.TB) { restart(t, m) }
			sourcetest.Run(t, f)
		})
	}
}

func TestAGroupThatGoesAwayIsCreatedWhereItWas(t *testing.T) {
	m, c := server(t)
	groupGoes(t, c, m.Addr())
}

func TestAnEntryThatWasDeletedHoldsUpNothing(t *testing.T) {
	m, c := server(t)
	o := options("stream", "orders", m.Addr())
	r := start(t, o, &runtest.Sink{})
	r.AwaitReady(true)
	r.End()
	id, err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: "orders", Values: []string{"data", "x"}}).Result()
	if err != nil {
		t.Fatal(err)
	}
	// What a process leaves that dies.
	err = c.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "group", Consumer: New(o).consumer(), Streams: []string{"orders", ">"}}).Err()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.XDel(t.Context(), "orders", id).Err(); err != nil {
		t.Fatal(err)
	}
	start(t, o, &runtest.Sink{}).AwaitReady(true)
	runtest.Eventually(t, "nothing is pending", func() bool { return c.XPending(t.Context(), "orders", "group").Val().Count == 0 })
}

// What a process held that died is taken over, also when something of it was deleted meanwhile. Redis 7 then leaves that out; 6.2 hands it over
// too, and answers nil in the place of the entry.
func TestWhatWasDeletedBeforeItWasTakenOverHoldsUpNothing(t *testing.T) {
	m, c := server(t)
	if err := c.XGroupCreateMkStream(t.Context(), "orders", "group", "$").Err(); err != nil {
		t.Fatal(err)
	}
	const n = 2 * maxInFlight
	for i := range n {
		if err := push(c, "stream", "orders", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	read, err := c.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "group", Consumer: "dead", Streams: []string{"orders", ">"}}).Result()
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < n; i += 3 {
		if err := c.XDel(t.Context(), "orders", read[0].Messages[i].ID).Err(); err != nil {
			t.Fatal(err)
		}
	}
	m.Server().SetPreHook(func(p *miniserver.Peer, command string, args ...string) bool {
		if strings.EqualFold(command, "XAUTOCLAIM") {
			autoClaimAsRedis6(c, p, args)
			return true
		}
		return false
	})
	s := &runtest.Sink{}
	r := start(t, options("stream", "orders", m.Addr()), s)
	runtest.Eventually(t, "nothing is pending", func() bool { return c.XPending(t.Context(), "orders", "group").Val().Count == 0 })
	if distinct, repeated := s.Distinct(), len(s.Data())-s.Distinct(); distinct != n-(n+2)/3 || repeated > 0 {
		t.Errorf("%d events and %d again, want the %d that were not deleted, once", distinct, repeated, n-(n+2)/3)
	}
	r.End()
}

// autoClaimAsRedis6 answers XAUTOCLAIM key group consumer min-idle start COUNT n [JUSTID].
func autoClaimAsRedis6(c *redis.Client, p *miniserver.Peer, args []string) {
	ctx := context.Background()
	idle, _ := strconv.Atoi(args[3])
	count, _ := strconv.Atoi(args[6])
	pending := c.XPendingExt(ctx, &redis.XPendingExtArgs{
		Stream: args[0], Group: args[1], Idle: time.Duration(idle) * time.Millisecond, Start: args[4], End: "+", Count: int64(count) + 1,
	}).Val()
	next := "0-0"
	if len(pending) > count {
		next, pending = pending[count].ID, pending[:count]
	}
	p.WriteLen(2)
	p.WriteBulk(next)
	p.WriteLen(len(pending))
	for _, e := range pending {
		c.XClaimJustID(ctx, &redis.XClaimArgs{Stream: args[0], Group: args[1], Consumer: args[2], Messages: []string{e.ID}})
		entries := c.XRangeN(ctx, args[0], e.ID, e.ID, 1).Val()
		switch {
		case strings.EqualFold(args[len(args)-1], "JUSTID"):
			p.WriteBulk(e.ID)
		case len(entries) == 0:
			p.WriteNull()
		default:
			p.WriteLen(2)
			p.WriteBulk(e.ID)
			p.WriteStrings([]string{"data", entries[0].Values["data"].(string)})
		}
	}
}

// A process that has no room for more is no process that is gone.
func TestWhatIsHeldIsKeptWhileThereIsNoRoomForMore(t *testing.T) {
	for way, command := range map[string]string{"stream": "XCLAIM", "list": "SET"} {
		t.Run(way, func(t *testing.T) {
			m, c := server(t)
			var kept atomic.Int64
			m.Server().SetPreHook(func(_ *miniserver.Peer, said string, _ ...string) bool {
				if strings.EqualFold(said, command) {
					kept.Add(1)
				}
				return false
			})
			release := make(chan struct{})
			var once sync.Once
			defer once.Do(func() { close(release) })
			s := &runtest.Sink{Refuse: func(string) error { <-release; return nil }}
			r := start(t, options(way, "orders", m.Addr()), s)
			r.AwaitReady(true)
			for _, value := range []string{"a", "b"} {
				if err := push(c, way, "orders", strings.Repeat(value, maxBytes*3/4)); err != nil {
					t.Fatal(err)
				}
			}
			runtest.Eventually(t, "both are read", func() bool {
				if way == "list" {
					return !m.Exists("orders")
				}
				return c.XPending(t.Context(), "orders", "group").Val().Count == 2
			})
			before := kept.Load()
			runtest.Eventually(t, "what is held is kept", func() bool { return kept.Load() > before+5 })
			once.Do(func() { close(release) })
			runtest.Eventually(t, "both are taken", func() bool { return s.Distinct() == 2 })
		})
	}
}

// Where the server refuses a new connection, as when a password has changed, the client says nothing of the single commands.
func TestElementsThatWereNotAskedForAreNone(t *testing.T) {
	m, _ := server(t)
	m.RequireAuth("changed")
	o := options("list", "orders", m.Addr())
	o.Source.Redis.Password = "old"
	d, err := newDialer(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := New(o)
	r := &run{Source: s, client: s.client(d), dialer: d, log: zap.NewNop().Sugar()}
	defer r.client.Close()
	taken := &runtest.Sink{}
	r.hands = hands{ctx: t.Context(), work: t.Context(), handover: source.Handover{Next: taken, Log: r.log}, slots: make(chan struct{}, maxInFlight), bytes: semaphore.NewWeighted(maxBytes)}
	l := newList(r)
	l.batch = 5
	if err := l.more(t.Context(), 5); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("more() = %v, want that the password is refused", err)
	}
	if l.mu.Lock(); len(l.held) > 0 {
		t.Errorf("it holds %v, want nothing", l.held)
	}
	l.mu.Unlock()
}

func TestEqualElementsAreDifferentEvents(t *testing.T) {
	m, c := server(t)
	var mu sync.Mutex
	ids := map[string]bool{}
	next := event.HandlerFunc(func(_ context.Context, e *event.Event) error {
		mu.Lock()
		defer mu.Unlock()
		ids[e.ID()] = true
		return nil
	})
	start(t, options("list", "orders", m.Addr()), next).AwaitReady(true)
	if err := c.RPush(t.Context(), "orders", "same", "same", "same").Err(); err != nil {
		t.Fatal(err)
	}
	runtest.Eventually(t, "three events", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(ids) == 3
	})
	runtest.Eventually(t, "nothing is being processed", func() bool { return len(m.Keys()) == 2 }) // the registry and the sign of life
	for _, key := range m.Keys() {
		if !strings.HasPrefix(key, "{orders}:") {
			t.Errorf("there is a key %s", key)
		}
	}
}

func TestAListLeavesNothingBehind(t *testing.T) {
	m, c := server(t)
	r := start(t, options("list", "orders", m.Addr()), event.HandlerFunc(func(context.Context, *event.Event) error { return errors.New("not now") }))
	r.AwaitReady(true)
	if err := c.RPush(t.Context(), "orders", "a", "b", "c").Err(); err != nil {
		t.Fatal(err)
	}
	runtest.Eventually(t, "the elements are being processed", func() bool { return !m.Exists("orders") })
	r.End()
	if got := m.Keys(); !slices.Equal(got, []string{"orders"}) {
		t.Fatalf("keys %v, want only the list", got)
	}
	if got, _ := m.List("orders"); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("the list has %v, want a, b, c", got)
	}
}

// What nobody will ever take holds up nothing and is not lost: it is where the log says.
func TestWhatIsRefusedForGoodIsLeftBehind(t *testing.T) {
	for way, where := range map[string]string{"stream": "entry", "list": "to", "channel": "id"} {
		t.Run(way, func(t *testing.T) {
			m, c := server(t)
			core, logs := observer.New(zap.ErrorLevel)
			s := &runtest.Sink{Refuse: func(data string) error {
				if data == "bad" {
					return event.Permanent(errors.New("boom"))
				}
				return nil
			}}
			r := startLogged(t, options(way, "orders", m.Addr()), s, zap.New(core).Sugar())
			r.AwaitReady(true)
			for _, value := range []string{"bad", "good"} {
				if err := push(c, way, "orders", value); err != nil {
					t.Fatal(err)
				}
			}
			runtest.Eventually(t, "the other event", func() bool { return s.Count("good") == 1 })
			runtest.Eventually(t, "the log says it", func() bool { return logs.Len() == 1 })
			if said := logs.All()[0].ContextMap(); said["error"] != "boom" || said[where] == nil {
				t.Errorf("the log has %v, want the error and %s", said, where)
			}
			r.End()
			switch way {
			case "stream":
				if n := c.XPending(t.Context(), "orders", "group").Val().Count; n != 0 {
					t.Errorf("%d entries are pending, want none", n)
				}
				if n := c.XLen(t.Context(), "orders").Val(); n != 2 {
					t.Errorf("the stream has %d entries, want both", n)
				}
			case "list":
				if got, _ := m.List("{orders}:refused"); !slices.Equal(got, []string{"bad"}) || len(m.Keys()) != 1 {
					t.Errorf("the list of what is refused has %v, and there are the keys %v", got, m.Keys())
				}
			}
			if n := s.Count("bad"); n != 0 {
				t.Errorf("the event was taken %d times", n)
			}
		})
	}
}

func TestARemovalOfUnknownOutcomeIsNotTriedAgain(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{redis.ErrCrossSlot, true},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, true},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, false},
		{io.EOF, false},
	} {
		if got := notExecuted(tt.err); got != tt.want {
			t.Errorf("notExecuted(%v) = %t, want %t", tt.err, got, tt.want)
		}
	}
	if !(once{}).NoRetry() {
		t.Error("the client tries it again")
	}
}

func TestMessagesBeyondTheQueueAreLostAndCounted(t *testing.T) {
	m, _ := server(t)
	core, logs := observer.New(zap.InfoLevel)
	release := make(chan struct{})
	s := &runtest.Sink{Refuse: func(string) error { <-release; return nil }}
	r := startLogged(t, options("channel", "news", m.Addr()), s, zap.New(core).Sugar())
	r.AwaitReady(true)
	const n = maxInFlight + 1 + maxQueued + 500 // one is between the queue and the hands
	for i := range n {
		m.Publish("news", fmt.Sprint(i))
	}
	runtest.Eventually(t, "the queue is full", func() bool { return logs.FilterMessageSnippet("messages are lost").Len() == 1 })
	close(release)
	runtest.Eventually(t, "what was lost is counted", func() bool { return logs.FilterMessage("messages were lost").Len() > 0 })
	runtest.Eventually(t, "every message is taken or counted", func() bool {
		taken := s.Distinct()
		return taken+lost(logs) == n
	})
}

// lost is how many messages the log says were lost.
func lost(logs *observer.ObservedLogs) (n int) {
	for _, e := range logs.FilterMessage("messages were lost").All() {
		n += int(e.ContextMap()["count"].(int64))
	}
	return n
}

func TestWhatIsQueuedIsHandedOnAtTheEnd(t *testing.T) {
	m, _ := server(t)
	core, logs := observer.New(zap.InfoLevel)
	release := make(chan struct{})
	s := &runtest.Sink{Refuse: func(string) error { <-release; return nil }}
	r := startLogged(t, options("pattern", "news", m.Addr()), s, zap.New(core).Sugar())
	r.AwaitReady(true)
	for i := range maxInFlight + 1 + maxQueued + 1 { // at least one is lost, more if they come faster than they are begun
		m.Publish("news.of.today", fmt.Sprint(i))
	}
	runtest.Eventually(t, "the queue is full", func() bool { return logs.FilterMessageSnippet("messages are lost").Len() == 1 })
	r.Stop()
	close(release)
	r.End()
	if taken := s.Distinct(); taken < maxQueued {
		t.Errorf("%d messages were taken, want the %d that the queue held", taken, maxQueued)
	}
}

func TestAnOutageIsSaidOnce(t *testing.T) {
	m, _ := server(t)
	core, logs := observer.New(zap.InfoLevel)
	var dials atomic.Int64
	o := options("stream", "orders", m.Addr())
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	r := startLogged(t, o, &runtest.Sink{}, zap.New(core).Sugar())
	r.AwaitReady(true)
	m.Close()
	r.AwaitReady(false)
	before := dials.Load()
	runtest.Eventually(t, "it tries again", func() bool { return dials.Load() > before+8 }) // more than one session does
	restart(t, m)
	r.AwaitReady(true)
	var said []string
	for _, e := range logs.All() {
		said = append(said, e.Message)
	}
	if want := []string{"redis is not read, trying again", "redis is read again"}; !slices.Equal(said, want) {
		t.Errorf("log lines %q, want %q", said, want)
	}
}
