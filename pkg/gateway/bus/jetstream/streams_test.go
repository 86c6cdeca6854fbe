package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
)

// storedOnce publishes bytes that are no event, which the server cannot recognise as duplicates, and wants the stream to have them once.
func storedOnce(t *testing.T, s *broker, stream, subject string) {
	t.Helper()
	nc, js := s.connect(t), manager(t, s)
	last := func() uint64 {
		found, err := js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatalf("stream %s: %v", stream, err)
		}
		return found.CachedInfo().State.LastSeq
	}
	before := last()
	// Both copies of the first come before the answer to the second.
	for range 2 {
		if _, err := nc.Request(subject, []byte("no event"), 30*time.Second); err != nil {
			t.Fatalf("publish to %s: %v", subject, err)
		}
	}
	if n := last() - before; n != 2 {
		t.Errorf("stream %s stored 2 messages on %s %d times", stream, subject, n)
	}
}

func TestStreams(t *testing.T) {
	s := newBroker(t, false)
	js := manager(t, s)
	_, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "theirs", Subjects: []string{"orders.>"}})
	if err != nil {
		t.Fatal(err)
	}
	topics := []string{
		"metrics", "audit.log", "orders.new", "openfunction.ns.es.e", "openfunction.ns.trigger.t.deadletter", "openfunction.ns.eventsource.es.deadletter",
	}
	// Several processes begin to use topics at the same time.
	var wg sync.WaitGroup
	for range 4 {
		b := open(t, s.options())
		for _, name := range topics {
			wg.Go(func() { publish(t, b.Topic(bus.Topic{Name: name}), newEvent(t, "e1", []byte("x"))) })
		}
	}
	wg.Wait()
	noLatecomers(t, open(t, s.options()))
	want := map[string]uint64{
		"theirs":                     1, // duplicates are dropped there too: two minutes is the server's default
		"openfunction-topic-metrics": 1, "openfunction-topic-audit=log": 1, "openfunction-deadletters": 2,
		"openfunction-events": 0, // nobody subscribes
	}
	for name, n := range want {
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatalf("stream %s: %v", name, err)
		}
		if got := stream.CachedInfo().State.Msgs; got != n {
			t.Errorf("stream %s holds %d messages, want %d", name, got, n)
		}
	}
}

// A stream that kept less, or dropped what is old to take what is new, would lose events silently; one that forgot ids sooner would let
// duplicates of a publisher that was away for a minute pass.
func TestStreamsAreMadeAsTheBusSays(t *testing.T) {
	s := newBroker(t, false)
	js := manager(t, s)
	o := s.options()
	o.Config.MaxBytes = 1 << 20
	b := open(t, o)
	for _, tt := range []struct {
		topic, stream string
		want          natsjs.StreamConfig
	}{
		{"openfunction.ns.es.e", "openfunction-events", natsjs.StreamConfig{
			Subjects: []string{"openfunction.*.*.*"}, Retention: natsjs.InterestPolicy, MaxBytes: 1 << 20,
		}},
		{"openfunction.ns.trigger.t.deadletter", "openfunction-deadletters", natsjs.StreamConfig{
			Subjects: []string{"openfunction.*.trigger.*.deadletter", "openfunction.*.eventsource.*.deadletter"}, MaxBytes: -1,
		}},
		{"metrics", "openfunction-topic-metrics", natsjs.StreamConfig{Subjects: []string{"metrics"}, MaxBytes: -1, MaxAge: 7 * 24 * time.Hour}},
	} {
		publish(t, b.Topic(bus.Topic{Name: tt.topic}), newEvent(t, "e1", nil))
		stream, err := js.Stream(t.Context(), tt.stream)
		if err != nil {
			t.Fatalf("stream %s: %v", tt.stream, err)
		}
		c := stream.CachedInfo().Config
		got := natsjs.StreamConfig{
			Subjects: c.Subjects, Retention: c.Retention, MaxBytes: c.MaxBytes, MaxAge: c.MaxAge, MaxMsgs: c.MaxMsgs, MaxMsgsPerSubject: c.MaxMsgsPerSubject,
			MaxMsgSize: c.MaxMsgSize, Discard: c.Discard, Duplicates: c.Duplicates, Storage: c.Storage, Replicas: c.Replicas, NoAck: c.NoAck,
		}
		want := tt.want
		want.MaxMsgs, want.MaxMsgsPerSubject, want.MaxMsgSize = -1, -1, -1
		want.Discard, want.Duplicates, want.Storage, want.Replicas = natsjs.DiscardNew, 2*time.Minute, natsjs.FileStorage, 1
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("configuration of stream %s differs (-want +got):\n%s", tt.stream, diff)
		}
	}
}

// A server that is asked for one change by several at once subscribes a stream to a new subject several times.
func TestEventsAreStoredOnceHoweverManyBeginAtOnce(t *testing.T) {
	const name = "openfunction.test.es.e"
	for range 4 {
		s := newBroker(t, false)
		var subscribed sync.WaitGroup
		for i := range 16 {
			b := open(t, s.options())
			subscribed.Go(func() { subscribe(t, b, bus.Subscription{Name: fmt.Sprint("s", i), Topics: []string{name}}, nil) })
		}
		subscribed.Wait()
		storedOnce(t, s, "openfunction-events", name)
	}
}

func TestTopicsAreStoredOnceHoweverManyBeginAtOnce(t *testing.T) {
	s := newBroker(t, false)
	var wg sync.WaitGroup
	buses := make([]*jetstream.Bus, 8)
	for i := range buses {
		buses[i] = open(t, s.options())
	}
	for i := range 20 {
		for _, b := range buses {
			wg.Go(func() { publish(t, b.Topic(bus.Topic{Name: fmt.Sprint("topic-", i)}), newEvent(t, "e", nil)) })
		}
	}
	wg.Wait()
	js := manager(t, s)
	for i := range 20 {
		name := fmt.Sprint("topic-", i)
		stream, err := js.StreamNameBySubject(context.Background(), name)
		if err != nil {
			t.Fatalf("topic %s: %v", name, err)
		}
		storedOnce(t, s, stream, name)
	}
}

func TestLimitOfTheStreamOfEvents(t *testing.T) {
	const name = "openfunction.test.es.e"
	s := newBroker(t, false)
	js := manager(t, s)
	b := open(t, s.options())
	topic := b.Topic(bus.Topic{Name: name})
	publish(t, topic, newEvent(t, "before", nil))
	limit := func(size int32) {
		t.Helper()
		stream, err := js.Stream(t.Context(), "openfunction-events")
		if err != nil {
			t.Fatal(err)
		}
		c := stream.CachedInfo().Config
		c.MaxMsgSize = size
		if _, err := js.UpdateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // as another process makes it
	err := topic.Handle(t.Context(), newEvent(t, "closed", nil))
	var away *event.Unavailable
	if !errors.As(err, &away) || away.Full || !strings.Contains(err.Error(), "new and not open yet") {
		t.Errorf("Handle while the stream is closed = %v, want *event.Unavailable that says so", err)
	}
	publish(t, topic, newEvent(t, "closed", nil))

	limit(1000) // as a person wants it
	publish(t, topic, newEvent(t, "small", nil))
	err = topic.Handle(t.Context(), newEvent(t, "large", make([]byte, 2000)))
	if !event.IsPermanent(err) || !errors.Is(err, event.ErrTooLarge) || !strings.Contains(err.Error(), "the stream's max_msg_size") {
		t.Errorf("Handle of an event that is larger than the stream's limit = %v, want a permanent error: too large", err)
	}
	publish(t, topic, newEvent(t, "small again", nil))
}

func TestStreamsOfEarlierVersions(t *testing.T) {
	const name = "openfunction.test.es.e"
	for _, subjects := range [][]string{{"_OPENFUNCTION.events.closed"}, {"openfunction.*.*.*"}} {
		s := newBroker(t, false)
		js := manager(t, s)
		for _, c := range []natsjs.StreamConfig{
			{Name: "openfunction-events", Subjects: subjects, Retention: natsjs.InterestPolicy, Discard: natsjs.DiscardNew},
			{Name: "openfunction-topics", Subjects: []string{"metrics", "audit"}},
		} {
			if _, err := js.CreateStream(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		b := open(t, s.options())
		r := subscribe(t, b, bus.Subscription{Name: "s", Topics: []string{name}}, nil)
		publish(t, b.Topic(bus.Topic{Name: name}), newEvent(t, "e1", nil))
		eventually(t, "e1", func() bool { return r.has("e1") })
		storedOnce(t, s, "openfunction-events", name)
		publish(t, b.Topic(bus.Topic{Name: "metrics"}), newEvent(t, "e2", nil))
		storedOnce(t, s, "openfunction-topics", "metrics")
		publish(t, b.Topic(bus.Topic{Name: "new"}), newEvent(t, "e3", nil))
		storedOnce(t, s, "openfunction-topic-new", "new")
	}
}

func TestUnsubscribeAlsoWhereItWasBefore(t *testing.T) {
	s := newBroker(t, false)
	js := manager(t, s)
	b := open(t, s.options())
	topics := []string{"metrics", "audit", "openfunction.test.es.e"}
	t.Run("subscribe", func(t *testing.T) { subscribe(t, b, bus.Subscription{Name: "s", Topics: topics}, nil) })
	if err := b.Unsubscribe(t.Context(), bus.Subscription{Name: "s", Topics: topics[:1]}); err != nil {
		t.Fatal(err)
	}
	for _, topic := range topics {
		stream, err := js.StreamNameBySubject(t.Context(), topic)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.Consumer(t.Context(), stream, "s"); !errors.Is(err, natsjs.ErrConsumerNotFound) {
			t.Errorf("after Unsubscribe, the consumer on %s: %v, want that there is none", stream, err)
		}
	}
}

func TestATopicThatIsNotAnsweredHoldsUpNoOther(t *testing.T) {
	s := guarded(t, &server.Options{})
	if err := s.GlobalAccount().AddMapping("$JS.API.STREAM.CREATE.openfunction-topic-slow", "silent"); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	questions, err := nc.SubscribeSync("silent")
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, jetstream.Options{Name: "EventBus a/b", Config: plan.JetStream{URL: s.ClientURL()}})
	eventually(t, "the bus is ready", func() bool { return b.Ready() == nil })
	for i := range 5 { // a machine may be so slow that the question is given up meanwhile
		ended := make(chan error, 1)
		go func() { ended <- b.Topic(bus.Topic{Name: "slow"}).Handle(t.Context(), newEvent(t, "e", nil)) }()
		if _, err := questions.NextMsg(30 * time.Second); err != nil {
			t.Fatalf("the server is not asked for the slow topic: %v", err)
		}
		publish(t, b.Topic(bus.Topic{Name: fmt.Sprint("other-", i)}), newEvent(t, "e", nil))
		ctx, cancel := context.WithCancel(t.Context())
		second := make(chan error, 1)
		go func() { second <- b.Topic(bus.Topic{Name: "slow"}).Handle(ctx, newEvent(t, "e", nil)) }()
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("Handle of who does not wait any more = %v, want %v", err, context.Canceled)
		}
		select {
		case <-ended:
		default:
			return
		}
	}
	t.Error("five times, a topic had to wait for another one that the server did not answer for")
}

// An EventBus and a ClusterEventBus may lead to one server. Each of them connects again and again, in many processes.
func TestTwoBusesOnOneServerTakeNothingFromEachOther(t *testing.T) {
	s := newBroker(t, false)
	js := manager(t, s)
	core, logs := observer.New(zap.WarnLevel)
	bound := func() int64 {
		t.Helper()
		stream, err := js.Stream(t.Context(), "openfunction-events")
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().Config.MaxBytes
	}
	connect := func(name string, maxBytes int64) *jetstream.Bus {
		t.Helper()
		o := s.options()
		o.Name, o.Config.MaxBytes = name, maxBytes
		b := jetstream.New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), o)
		t.Cleanup(func() { _ = b.Close() })
		eventually(t, name+" is ready", func() bool { return b.Ready() == nil })
		return b
	}
	const one, other = "EventBus a/b", "ClusterEventBus c"
	for _, step := range []struct {
		bus            string
		maxBytes, want int64
	}{
		{other, 0, -1}, {one, 1 << 20, 1 << 20}, {other, 0, 1 << 20}, {other, 2 << 20, 1 << 20}, {one, 3 << 20, 3 << 20}, {one, 0, -1}, {other, 2 << 20, 2 << 20},
	} {
		connect(step.bus, step.maxBytes)
		if got := bound(); got != step.want {
			t.Errorf("after %s with maxBytes %d connected: %d, want %d", step.bus, step.maxBytes, got, step.want)
		}
	}
	var said []map[string]any
	for _, l := range logs.FilterMessageSnippet("another bus on this server").All() {
		said = append(said, l.ContextMap())
	}
	told := func(wanted int64) map[string]any {
		return map[string]any{"bus": other, "stream": "openfunction-events", "field": "maxBytes", "wanted": wanted, "has": int64(1 << 20), "from": one}
	}
	if diff := cmp.Diff([]map[string]any{told(0), told(2 << 20)}, said); diff != "" {
		t.Errorf("warnings differ (-want +got):\n%s", diff)
	}
}

func TestAWeakerBusIsToldOnce(t *testing.T) {
	s := newBroker(t, false)
	o := s.options()
	o.Name, o.Config.MaxBytes = "EventBus a/b", 1<<20
	first := open(t, o)
	eventually(t, "the first is ready", func() bool { return first.Ready() == nil })
	core, logs := observer.New(zap.WarnLevel)
	b := jetstream.New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), s.options())
	t.Cleanup(func() { _ = b.Close() })
	eventually(t, "the second is ready", func() bool { return b.Ready() == nil })
	for range 2 {
		s.stop(t)
		eventually(t, "the server is away", func() bool { return b.Ready() != nil })
		s.start(t)
		eventually(t, "the server is back", func() bool { return b.Ready() == nil })
	}
	if n := logs.FilterMessageSnippet("another bus on this server").Len(); n != 1 {
		t.Errorf("told %d times that another bus has set maxBytes, want once", n)
	}
}

// The server would remove a subscription that is away, with what waits for it.
func TestSubscriptionsOutlastAnyAbsence(t *testing.T) {
	s := newBroker(t, false)
	js := manager(t, s)
	limits := natsjs.StreamConsumerLimits{InactiveThreshold: time.Hour}
	if _, err := js.CreateStream(t.Context(), natsjs.StreamConfig{Name: "forgetful", Subjects: []string{"metrics"}, ConsumerLimits: limits}); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.WarnLevel)
	b := jetstream.New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), s.options())
	t.Cleanup(func() { _ = b.Close() })
	const name = "openfunction.test.es.e"
	subscription := bus.Subscription{Name: "s", Topics: []string{name, "metrics"}}
	subscribe(t, b, subscription, nil)
	c, err := js.Consumer(t.Context(), "openfunction-events", "s")
	if err != nil {
		t.Fatal(err)
	}
	edited := c.CachedInfo().Config
	edited.InactiveThreshold = time.Hour
	if _, err := js.UpdateConsumer(t.Context(), "openfunction-events", edited); err != nil {
		t.Fatal(err)
	}
	subscribe(t, b, subscription, nil)
	for stream, want := range map[string]time.Duration{"openfunction-events": 0, "forgetful": time.Hour} {
		c, err := js.Consumer(t.Context(), stream, "s")
		if err != nil {
			t.Fatal(err)
		}
		if got := c.CachedInfo().Config.InactiveThreshold; got != want {
			t.Errorf("stream %s forgets the subscription after %s, want %s", stream, got, want)
		}
	}
	told := logs.FilterMessageSnippet("forgets a subscription").All()
	if len(told) != 1 {
		t.Fatalf("told %d times that a stream forgets subscriptions, want once", len(told))
	}
	want := map[string]any{"bus": s.options().Name, "stream": "forgetful", "after": time.Hour}
	if diff := cmp.Diff(want, told[0].ContextMap()); diff != "" {
		t.Errorf("logged fields differ (-want +got):\n%s", diff)
	}
}
