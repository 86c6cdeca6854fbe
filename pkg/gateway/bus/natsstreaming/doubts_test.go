package natsstreaming

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats-streaming-server/stores"
	"github.com/nats-io/stan.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/flood"
	"github.com/openfunction/events/pkg/gateway/bus"
)

var compareMissing = cmp.Options{cmp.AllowUnexported(missing{}), cmpopts.IgnoreFields(missing{}, "age")}

func TestWhatAnotherMemberMayHaveGotIsADoubt(t *testing.T) {
	t.Parallel()
	old, now := time.Now().Add(-2*behind).UnixNano(), time.Now().Add(time.Hour).UnixNano()
	came := func(sequence uint64) func(*flow) {
		return func(f *flow) { f.follow(place{topic: "t", sequence: sequence, stored: old}, false) }
	}
	fresh := func(sequence uint64) func(*flow) {
		return func(f *flow) { f.follow(place{topic: "t", sequence: sequence, stored: now}, false) }
	}
	again := func(sequence uint64) func(*flow) {
		return func(f *flow) { f.follow(place{topic: "t", sequence: sequence, stored: old}, true) }
	}
	alone := func(f *flow) { f.reconsider(); f.reconsider() }
	tests := []struct {
		name         string
		happens      []func(*flow)
		doubt, known missing
	}{
		{name: "the first message of a process", happens: []func(*flow){came(7)}, doubt: missing{from: 1, events: 6, next: 7, until: 7}},
		{name: "the first message of a subscription that may be new", happens: []func(*flow){func(f *flow) { f.anew = true }, came(7)}},
		{name: "the first message of a channel", happens: []func(*flow){came(1)}},
		{name: "a first message that was published just now", happens: []func(*flow){fresh(7)}},
		{
			name:    "gaps while there is another member",
			happens: []func(*flow){fresh(1), (*flow).share, came(3), came(4), fresh(6), came(9)},
			doubt:   missing{from: 2, events: 3, next: 3, until: 9},
		},
		{name: "a subscription that is not behind", happens: []func(*flow){(*flow).share, fresh(1), fresh(3), fresh(7)}},
		{
			name:    "another member makes itself heard late",
			happens: []func(*flow){came(1), came(3), came(5), (*flow).share},
			doubt:   missing{from: 2, events: 2, next: 3, until: 5},
		},
		{
			name:    "the other member has left",
			happens: []func(*flow){came(1), (*flow).share, alone, came(4), came(6)},
			doubt:   missing{from: 2, events: 2, next: 4, until: 4}, known: missing{from: 5, events: 1, next: 6, until: 6},
		},
		{name: "what a process before had is next to what is new", happens: []func(*flow){again(3), came(4)}},
		{
			name:    "what a process before had is before what it acknowledged",
			happens: []func(*flow){again(3), came(7)}, doubt: missing{from: 4, events: 3, next: 7, until: 7},
		},
		{
			name:    "what another member had comes between",
			happens: []func(*flow){came(1), came(2), again(5), came(7)}, doubt: missing{from: 6, events: 1, next: 7, until: 7},
		},
		{
			name:    "what was lost with the connection comes again",
			happens: []func(*flow){came(1), again(2), again(3), came(6)}, known: missing{from: 4, events: 2, next: 6, until: 6},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newTestFlow(1)
			var doubt missing
			f.doubt = func(_ string, gap missing) { doubt = doubt.and(gap) }
			for _, happens := range tt.happens {
				happens(f)
			}
			if diff := cmp.Diff(tt.doubt, doubt, compareMissing); diff != "" {
				t.Errorf("the doubt differs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.known, f.takeGaps()["t"], compareMissing); diff != "" {
				t.Errorf("what is certain differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatOfADoubtIsTold(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		gap   missing
		first uint64
		want  map[string]any // nil if nothing is told
	}{
		{"the server has what is missing", missing{from: 5, next: 9, age: time.Hour, until: 20}, 5, nil},
		{"the server had sent it, and has discarded some of it since", missing{from: 5, next: 9, age: time.Hour, until: 20}, 8, nil},
		{"what came is the oldest, and was when it came", missing{from: 5, next: 9, age: time.Hour, until: 9}, 9, map[string]any{"from": uint64(5), "to": uint64(8)}},
		{"what came is the oldest since those before have expired", missing{from: 5, next: 9, age: downFor - 1, until: 9}, 9, nil},
		{"the server discards what it has just sent", missing{from: 5, next: 9, age: behind, until: 30}, 20, map[string]any{"from": uint64(5), "to": uint64(19)}},
		{"it has discarded all that came", missing{from: 5, next: 9, age: behind, until: 30}, 50, map[string]any{"from": uint64(5), "to": uint64(29)}},
		{"of what the process before got nothing is known", missing{from: 1, next: 9, age: time.Hour, until: 9}, 9, map[string]any{"to": uint64(8)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			core, logs := observer.New(zap.WarnLevel)
			b := &Bus{log: zap.New(core).Sugar(), losses: map[string]time.Time{}}
			b.tellDoubts("topic", map[string]missing{"s": tt.gap}, tt.first)
			if tt.want == nil {
				if logs.Len() != 0 || b.Losing() != "" {
					t.Errorf("logged %v, Losing() = %q, want nothing", logs.All(), b.Losing())
				}
				return
			}
			tt.want["subscription"], tt.want["channel"] = "s", "topic"
			if told := lines(logs, perhapsLost); len(told) != 1 {
				t.Errorf("logged %v, want one line", logs.All())
			} else if diff := cmp.Diff(tt.want, told[0].ContextMap()); diff != "" {
				t.Errorf("the keys of the line differ (-want +got):\n%s", diff)
			}
			if got, want := b.Losing(), "channel topic discarded events that subscription s may not have got, since it is at its limits: "+roomCure; got != want {
				t.Errorf("Losing() = %q, want %q", got, want)
			}
		})
	}
}

func TestDoubtsAreOneFlood(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.WarnLevel)
	limited, flush := flood.Limit(core)
	defer flush()
	b := &Bus{log: zap.New(limited).Sugar(), losses: map[string]time.Time{}}
	const told = 100
	for n := range uint64(told) {
		b.tellDoubts("topic", map[string]missing{"s": {from: 5 + n, next: 9 + n, age: time.Hour, until: 9 + n}}, 9+n)
	}
	if n := len(lines(logs, perhapsLost)); n >= told {
		t.Errorf("%d lines of one subscription to one channel, want fewer", n)
	}
}

func TestADoubtAboutWhichThereIsNoAnswerStays(t *testing.T) {
	t.Parallel()
	s := limitedBroker(t, "", limitedTo(10))
	sender := client(t, s.url())
	for range 30 {
		if err := sender.Publish("topic", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	core, logs := observer.New(zap.DebugLevel)
	b := &Bus{
		log: zap.New(core).Sugar(), losses: map[string]time.Time{}, doubts: doubts{},
		changed: make(chan struct{}), attempted: make(chan struct{}), doubted: make(chan struct{}, 1),
	}
	closed := client(t, s.url())
	_ = closed.Close()
	older, newer := missing{from: 2, events: 7, next: 9, age: behind, until: 9}, missing{from: 11, events: 1, next: 12, age: behind, until: 12}
	asksAgain := func() {
		t.Helper()
		select {
		case <-b.doubted:
		default:
			t.Error("nobody asks again")
		}
	}
	b.doubt("s", "topic", older)
	asksAgain()
	b.become(&session{sc: closed, lost: make(chan struct{})}, nil)
	b.ask(t.Context())
	asksAgain()
	b.doubt("s", "topic", newer)
	b.ask(t.Context())
	asksAgain()
	want := doubts{"topic": {"s": missing{from: 2, events: 8, next: 9, until: 12}}}
	if diff := cmp.Diff(want, b.doubts, compareMissing); diff != "" {
		t.Errorf("what the server was asked in vain differs (-want +got):\n%s", diff)
	}
	live := &session{sc: client(t, s.url()), lost: make(chan struct{})}
	b.become(live, nil)
	b.ask(t.Context())
	if len(b.doubts) != 0 || len(lines(logs, perhapsLost)) != 1 {
		t.Errorf("doubts = %v, logged %v, want one line and no doubts", b.doubts, logs.All())
	}

	m := &membership{Bus: b, session: &session{sc: closed, lost: make(chan struct{})}}
	gaps := map[string]missing{"topic": older}
	f := newTestFlow(1)
	f.gaps["topic"] = newer
	f.restore(m.tellMissing(t.Context(), gaps))
	if diff := cmp.Diff(want["topic"]["s"], f.takeGaps()["topic"], compareMissing); diff != "" {
		t.Errorf("what is certainly missing differs (-want +got):\n%s", diff)
	}

	late := &session{sc: unanswered{closed}, lost: make(chan struct{})}
	if _, err := late.first(t.Context(), "topic", 1); err == nil || !late.isLost() {
		t.Errorf("error = %v, lost %t: the server may have made the subscription", err, late.isLost())
	}
}

// unanswered is a connection of which the server's answers come too late.
type unanswered struct{ stan.Conn }

func (unanswered) Subscribe(string, stan.MsgHandler, ...stan.SubscriptionOption) (stan.Subscription, error) {
	return nil, stan.ErrSubReqTimeout
}

func isEmpty(b *Bus, topic string) func() bool {
	return func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		session := b.session(ctx)
		if session == nil {
			return false
		}
		_, err := session.first(ctx, topic, 1)
		return err != nil
	}
}

// growOld waits until who receives what is published by now is behind.
func growOld() { time.Sleep(behind + 100*time.Millisecond) }

// untilTold publishes until one of the logs says what may be lost.
func untilTold(t *testing.T, publisher bus.Bus, logs ...*observer.ObservedLogs) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		for _, l := range logs {
			if len(lines(l, perhapsLost)) > 0 {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody says within 60s what may be lost")
		}
		publish(t, publisher, "topic", "more")
	}
}

// resolved is how often the server has answered.
func resolved(logs *observer.ObservedLogs) int { return len(lines(logs, "doubts are resolved")) }

// isNotTold waits until doubts are resolved for more than the given times.
func isNotTold(t *testing.T, b *Bus, logs *observer.ObservedLogs, before int) {
	t.Helper()
	eventually(t, "the server is asked, and answers", func() bool { return resolved(logs) > before })
	if told := lines(logs, discarded); len(told) != 0 || b.Losing() != "" {
		t.Errorf("logged %v, Losing() = %q, want nothing", told, b.Losing())
	}
}

// beside runs tests at once, however few the machine's processors are: they wait more than they work.
func beside(t *testing.T, tests map[string]func(*testing.T)) {
	t.Parallel()
	var wg sync.WaitGroup
	for name, test := range tests {
		wg.Go(func() { t.Run(name, test) })
	}
	wg.Wait()
}

func limitedTo(messages int) stores.ChannelLimits {
	return stores.ChannelLimits{MsgStoreLimits: stores.MsgStoreLimits{MaxMsgs: messages}}
}

func publishMany(t *testing.T, b *Bus, n int) {
	t.Helper()
	for i := range n {
		publish(t, b, "topic", fmt.Sprint("e", i))
	}
}

func TestWhatMayBeLostIsTold(t *testing.T) {
	severalMembers := func(members int) func(t *testing.T) {
		return func(t *testing.T) {
			s := limitedBroker(t, "", limitedTo(10))
			c := config(s.url())
			c.AckWait = time.Minute // after which the server forgets what it has sent and discarded, and sends more
			var buses []*Bus
			var logs []*observer.ObservedLogs
			var subscriptions []*gated
			for range members {
				b, l := connectLogged(t, c)
				if members == 1 {
					b.session(t.Context()).silent.Store(true) // as the server's first refusal does
				}
				buses, logs = append(buses, b), append(logs, l)
				subscriptions = append(subscriptions, subscribeGated(t, b, bus.Subscription{Name: "s", Topics: []string{"topic"}, MaxInFlight: 2}))
			}
			publishMany(t, buses[0], 60)
			growOld()
			for _, g := range subscriptions {
				g.set(true)
			}
			untilTold(t, buses[0], logs...)
			losing := false
			for i, b := range buses {
				losing = losing || b.Losing() != ""
				if certain := lines(logs[i], certainlyLost); len(certain) != 0 {
					t.Errorf("logged %v: another may have got it", certain)
				}
			}
			if !losing {
				t.Error("Losing() is empty, want that it is told")
			}
		}
	}
	whileNoProcessRan := func(queue bool) func(t *testing.T) {
		return func(t *testing.T) {
			s := limitedBroker(t, "", limitedTo(10))
			again, logs := restart(t, s.url(), queue, func(publisher *Bus) { publishMany(t, publisher, 30) })
			untilTold(t, again, logs)
			if told := lines(logs, perhapsLost)[0].ContextMap(); told["from"] != nil || told["to"].(uint64) < 21 {
				t.Errorf("logged %v, want that what may be lost is before what came, which is 22 at the earliest", told)
			}
		}
	}
	beside(t, map[string]func(*testing.T){
		"two members": severalMembers(2),
		"a member that may not ask whether there are others": severalMembers(1),
		"no process ran":                       whileNoProcessRan(true),
		"no process ran that is of type topic": whileNoProcessRan(false),
	})
}

// restart ends a process that has got an event of the topic, and starts it again after what happens meanwhile.
func restart(t *testing.T, url string, queue bool, meanwhile func(publisher *Bus)) (*Bus, *observer.ObservedLogs) {
	t.Helper()
	c := config(url)
	c.Queue = queue
	publisher := connect(t, instance(), c)
	sub := bus.Subscription{Name: "s", Topics: []string{"topic"}}
	same := instance()
	before := connect(t, same, c)
	in := subscribe(t, before, sub)
	publish(t, publisher, "topic", "before")
	in.wants(t, "before")
	_ = before.Close()
	meanwhile(publisher)
	growOld()
	again, logs := connectLoggedAs(t, same, c)
	subscribe(t, again, sub)
	return again, logs
}

func TestWhatIsNotLostIsNotTold(t *testing.T) {
	beside(t, map[string]func(*testing.T){
		"members that come and go": membersThatComeAndGo,
		"a process that starts again, and gets all that was published meanwhile": func(t *testing.T) {
			again, logs := restart(t, startBroker(t, "").url(), true, func(publisher *Bus) { publish(t, publisher, "topic", "e") })
			isNotTold(t, again, logs, 0)
		},
		"what was delivered before has expired": func(t *testing.T) {
			s := limitedBroker(t, t.TempDir(), stores.ChannelLimits{MsgStoreLimits: stores.MsgStoreLimits{MaxAge: 2 * time.Second}})
			again, logs := restart(t, s.url(), true, func(publisher *Bus) {
				eventually(t, "all is expired", isEmpty(publisher, "topic"))
				s.stop(t)
				s.limits = stores.ChannelLimits{} // so that what comes now stays, however slow the machine is
				s.start(t)
				eventually(t, "the bus is ready", isReady(publisher))
				publish(t, publisher, "topic", "e")
			})
			isNotTold(t, again, logs, 0)
		},
		"a subscription that is new, and gets all that the channel has": func(t *testing.T) {
			s := limitedBroker(t, "", limitedTo(10))
			c := config(s.url())
			c.StartAt = "all"
			b, logs := connectLogged(t, c)
			publishMany(t, b, 30)
			growOld()
			in := subscribe(t, b, bus.Subscription{Name: "s", Topics: []string{"topic"}})
			eventually(t, "the oldest come", func() bool { return len(in.ids()) == 10 })
			b.mu.Lock()
			defer b.mu.Unlock()
			if len(b.doubts) != 0 || len(lines(logs, discarded)) != 0 {
				t.Errorf("there are doubts: %v; logged %v", b.doubts, logs.All())
			}
		},
	})
}

func membersThatComeAndGo(t *testing.T) {
	s := limitedBroker(t, "", limitedTo(20000))
	sub := bus.Subscription{Name: "s", Topics: []string{"topic"}, MaxInFlight: 50}
	c := config(s.url())
	c.AckWait = time.Minute // so that nothing comes again, and both get their part
	one, logs := connectLogged(t, c)
	members := []*gated{subscribeGated(t, one, sub)}
	received := func() (n int) {
		for _, g := range members {
			n += g.count()
		}
		return n
	}
	const rounds, events = 2, 5000
	for round := range rounds {
		two, otherLogs := connectLogged(t, c)
		members = append(members, subscribeGated(t, two, sub))
		members[0].set(false)
		var wg sync.WaitGroup
		for worker := range 10 {
			wg.Go(func() {
				for i := range events / 10 {
					publish(t, one, "topic", fmt.Sprint(round, "-", worker, "-", i))
				}
			})
		}
		wg.Wait()
		growOld()
		before := resolved(logs)
		members[0].set(true)
		members[round+1].set(true)
		isNotTold(t, one, logs, before)
		eventually(t, "all is received", func() bool { return received() >= (round+1)*events })
		_ = two.Close()
		if told := lines(otherLogs, discarded); len(told) != 0 {
			t.Errorf("the other member logged %v", told)
		}
	}
}
