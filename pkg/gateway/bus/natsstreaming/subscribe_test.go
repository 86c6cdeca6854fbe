package natsstreaming

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/gateway/bus"
)

func TestStartAt(t *testing.T) {
	s := startBroker(t, "")
	b := connect(t, instance(), config(s.url()))
	publish(t, b, "topic", "e1")
	publish(t, b, "topic", "e2")
	between := time.Now()
	const pause = time.Second
	time.Sleep(pause) // see since
	publish(t, b, "topic", "e3")
	tests := []struct {
		name    string
		startAt string
		want    string
	}{
		{"new", "new", "e4"},
		{"nothing means new", "", "e4"},
		{"all", "all", "e1 e2 e3 e4"},
		{"the last", "last", "e3 e4"},
		{"a sequence", "sequence", "e2 e3 e4"},
		{"a delta", "delta", "e3 e4"},
		{"a time", "time", "e3 e4"},
	}
	begin := func(name, startAt string) *inbox {
		c := config(s.url())
		c.StartAt, c.StartAtSeq, c.StartAtDelta, c.StartAtTime = startAt, 2, time.Since(between), &between
		return subscribe(t, connect(t, instance(), c), bus.Subscription{Name: name, Topics: []string{"topic"}})
	}
	// since begins between e2 and e3. The server counts back from when it is asked, so one that is asked later than the pause begins after e3.
	since := func(name, startAt string) *inbox {
		for attempt := range 10 {
			asked := time.Now()
			if in := begin(fmt.Sprint(name, attempt), startAt); time.Since(asked) < pause {
				return in
			}
		}
		t.Fatalf("start at %s: ten subscriptions took longer than %s each", startAt, pause)
		return nil
	}
	var inboxes []*inbox
	for i, tt := range tests {
		start := begin
		if tt.startAt == "delta" || tt.startAt == "time" {
			start = since
		}
		inboxes = append(inboxes, start("s-"+string(rune('a'+i)), tt.startAt))
	}
	publish(t, b, "topic", "e4")
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { inboxes[i].wants(t, strings.Fields(tt.want)...) })
	}
}

func TestTypeTopicGivesEveryProcessItsCopy(t *testing.T) {
	s := startBroker(t, t.TempDir())
	c := config(s.url())
	c.Queue = false
	one, two := connect(t, "one", c), connect(t, "two", c)
	sub := bus.Subscription{Name: "s", Topics: []string{"topic"}}
	in1, in2 := subscribe(t, one, sub), subscribe(t, two, sub)
	publish(t, one, "topic", "e1")
	in1.wants(t, "e1")
	in2.wants(t, "e1")

	// A process that starts again with its name goes on where it was.
	_ = one.Close()
	publish(t, two, "topic", "e2")
	again := connect(t, "one", c)
	subscribe(t, again, sub).wants(t, "e2")
	in2.wants(t, "e1", "e2")

	if err := in2.stop(); err != nil {
		t.Fatal(err)
	}
	if err := two.Unsubscribe(context.Background(), sub); err != nil {
		t.Fatalf("Unsubscribe() = %v, want nil", err)
	}
	publish(t, two, "topic", "e3")
	in := subscribe(t, two, sub)
	publish(t, two, "topic", "e4")
	in.wants(t, "e4")
}

// A server whose store is in memory gives the sequences of the past to new messages.
func TestServerThatForgetsEverything(t *testing.T) {
	s := startBroker(t, "")
	b := connect(t, instance(), config(s.url()))
	in := subscribe(t, b, bus.Subscription{Name: "s", Topics: []string{"topic"}})
	publish(t, b, "topic", "e1")
	publish(t, b, "topic", "e2")
	in.wants(t, "e1", "e2")
	s.stop(t)
	eventually(t, "the bus is away", func() bool { return !isReady(b)() })
	s.start(t)
	publishRaw(t, s.url(), "topic", []byte(`{"specversion":"1.0","id":"e3","source":"/s","type":"t"}`)) // the subscription may not be back yet
	eventually(t, "the bus is ready", isReady(b))
	publish(t, b, "topic", "e4")
	in.wants(t, "e1", "e2", "e3", "e4")
}

func TestMaxInFlightIsSharedByTopics(t *testing.T) {
	s := startBroker(t, "")
	b := connect(t, instance(), config(s.url()))
	messages := make(chan *bus.Message, 100)
	ready := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Subscribe(ctx, bus.Subscription{Name: "s", Topics: []string{"a", "b"}, MaxInFlight: 4, Grace: time.Millisecond,
			Ready: func(err error) { ready <- err }}, func(m *bus.Message) { messages <- m })
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	for range 10 {
		publish(t, b, "a", "a")
	}
	publish(t, b, "b", "b")
	got := map[string]int{}
	for range 3 {
		got[(<-messages).Topic]++
	}
	if got["a"] != 2 || got["b"] != 1 {
		t.Errorf("received %v, want two of the topic that floods and the one of the other", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Subscribe() = %v, want nil", err)
	}
}

func TestSettingsThatCannotWork(t *testing.T) {
	s := startBroker(t, "")
	c := config(s.url())
	c.Durable = "a:b"
	b := connect(t, instance(), c)
	err := b.Subscribe(context.Background(), bus.Subscription{Name: "s", Topics: []string{"topic"}}, func(*bus.Message) {})
	if err == nil || !strings.Contains(err.Error(), "can't contain the character ':'") {
		t.Errorf("Subscribe with the durable name a:b = %v, want the server's reason", err)
	}
}

func TestUnsubscribeDoesNotWaitForEver(t *testing.T) {
	b := connect(t, instance(), config("nats://127.0.0.1:1"))
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := b.Unsubscribe(ctx, bus.Subscription{Name: "s", Topics: []string{"topic"}}); err == nil {
		t.Error("Unsubscribe while the server is away = nil, want an error")
	}
}
