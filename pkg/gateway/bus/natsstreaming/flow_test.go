package natsstreaming

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/stan.go"
	"github.com/nats-io/stan.go/pb"

	"github.com/openfunction/events/pkg/gateway/bus"
)

// arrive gives f a message as the server would, and tells what became of it.
func arrive(f *flow, generation int, sequence uint64, repeated bool) admission {
	m := &message{place: place{"topic", sequence, 100}, raw: []byte("x"), handle: &stan.Msg{MsgProto: pb.MsgProto{Sequence: sequence}}}
	what, ask := f.admit(generation, m, repeated)
	if ask != nil {
		ask(m.place)
	}
	return what
}

// hand takes the next message that is ready at now from f, as deliver does, and returns its sequence.
func hand(f *flow, now time.Time) (uint64, *message) {
	m, _ := f.next(now)
	if m == nil {
		return 0, nil
	}
	return m.sequence, m
}

func newTestFlow(max int) *flow {
	f := newFlow(max, func(*bus.Message) {})
	f.begin(1)
	return f
}

func TestFlowHandsOverOnce(t *testing.T) {
	f := newTestFlow(2)
	for sequence := range uint64(3) {
		arrive(f, 1, sequence+1, false)
	}
	arrive(f, 1, 1, true)
	first, one := hand(f, time.Now())
	second, two := hand(f, time.Now())
	if first != 1 || second != 2 {
		t.Fatalf("handed over %d and %d, want 1 and 2", first, second)
	}
	if third, _ := hand(f, time.Now()); third != 0 {
		t.Errorf("handed over %d, want none beyond the limit", third)
	}
	if got := arrive(f, 1, 1, true); got != known {
		t.Errorf("a repeat of what is in flight: %v, want %v", got, known)
	}
	if f.settle(one, nil) == nil {
		t.Error("Done(nil) acknowledges nothing, want the message")
	}
	if got := arrive(f, 1, 1, true); got != acknowledged {
		t.Errorf("a repeat of what was acknowledged: %v, want %v", got, acknowledged)
	}
	if f.settle(two, errors.New("again")) != nil {
		t.Error("Done(error) acknowledges the message, want it kept")
	}
	if got, _ := hand(f, time.Now()); got != 3 {
		t.Errorf("handed over %d, want 3 while 2 waits", got)
	}
	if got, _ := hand(f, time.Now().Add(redeliverAfter)); got != 2 {
		t.Errorf("handed over %d, want 2 again", got)
	}
}

func TestFlowAcknowledgesWhereTheServerSentLast(t *testing.T) {
	f := newTestFlow(10)
	arrive(f, 1, 1, false)
	arrive(f, 1, 2, false)
	_, m := hand(f, time.Now())
	f.suspend()
	if got := arrive(f, 1, 3, false); got != known || len(f.queue) != 0 {
		t.Errorf("a message of a lost session was queued")
	}
	f.begin(2)
	handle := &stan.Msg{}
	f.admit(2, &message{place: m.place, handle: handle}, true)
	arrive(f, 2, 2, true)
	if got := f.settle(m, nil); got != handle {
		t.Errorf("acknowledges on %p, want the second session's %p", got, handle)
	}
	if got, _ := hand(f, time.Now().Add(claimWithin)); got != 2 {
		t.Errorf("handed over %d, want 2, which was not handed over before", got)
	}
}

func TestFlowThatEndsForgetsFailures(t *testing.T) {
	f := newTestFlow(10)
	arrive(f, 1, 1, false)
	_, m := hand(f, time.Now())
	ended := make(chan struct{})
	go func() {
		f.drain(time.Minute, nil)
		close(ended)
	}()
	eventually(t, "the flow is ending", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.ending
	})
	f.done(m, errors.New("again"))
	<-ended
	if len(f.held) != 0 {
		t.Errorf("%d messages are held after the end, want none", len(f.held))
	}
}

func TestClaims(t *testing.T) {
	question := func(sequence uint64) []byte {
		data, _ := json.Marshal(claim{Topic: "topic", Sequence: sequence, Stored: 100})
		return data
	}
	f := newTestFlow(10)
	var asked []place
	f.ask = func(p place) { asked = append(asked, p) }
	for sequence := range uint64(3) {
		arrive(f, 1, sequence+1, false)
	}
	_, done := hand(f, time.Now())
	f.settle(done, nil)
	hand(f, time.Now())
	arrive(f, 1, 4, true)
	if len(asked) != 1 || asked[0].sequence != 4 {
		t.Errorf("asked for %v, want only for the repeat, 4", asked)
	}
	tests := []struct {
		name     string
		sequence uint64
		answers  bool
		done     bool
	}{
		{"one that was acknowledged", 1, true, true},
		{"one in flight", 2, true, false},
		{"one that will be handed over", 3, true, false},
		{"one that we ask for ourselves", 4, false, false},
		{"one that we do not know", 5, false, false},
	}
	for _, tt := range tests {
		answer := f.answer(question(tt.sequence))
		var c claim
		if answer != nil && json.Unmarshal(answer, &c) != nil {
			t.Fatalf("%s: answer %s", tt.name, answer)
		}
		if (answer != nil) != tt.answers || c.Done != tt.done {
			t.Errorf("%s: answer %s, want one: %v, done: %v", tt.name, answer, tt.answers, tt.done)
		}
	}
	hand(f, time.Now()) // 3
	if got, _ := hand(f, time.Now()); got != 0 {
		t.Errorf("handed over %d while others may claim it", got)
	}
	f.claimed(question(4))
	if got, _ := hand(f, time.Now().Add(time.Hour)); got != 0 {
		t.Errorf("handed over %d, which another claimed", got)
	}
	arrive(f, 1, 5, true) // nobody answers
	if got, _ := hand(f, time.Now().Add(claimWithin)); got != 5 {
		t.Errorf("handed over %d, want 5, which nobody claimed", got)
	}
}

func TestRecentIsBounded(t *testing.T) {
	f := newTestFlow(1)
	for i := range uint64(2*remembered + 10) {
		f.recent.add(place{sequence: i})
	}
	if got := len(f.recent.places); got != remembered {
		t.Errorf("remembers %d places, want %d", got, remembered)
	}
	if f.recent.has(place{sequence: remembered}) || !f.recent.has(place{sequence: 2*remembered + 9}) {
		t.Error("remembers the oldest rather than the latest")
	}
}

// The one that holds the message is cut off for good: the other gets it after the ack wait.
func TestMemberTakesOverFromOneThatIsGone(t *testing.T) {
	t.Parallel()
	s := startBroker(t, "")
	first := connect(t, instance(), config(s.url()))
	sub := bus.Subscription{Name: "s", Topics: []string{"topic"}}
	got, ready := make(chan *bus.Message, 1), make(chan error, 10)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		sub := sub
		sub.Grace, sub.Ready = time.Millisecond, func(err error) { ready <- err }
		ended <- first.Subscribe(ctx, sub, func(m *bus.Message) { got <- m })
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	publish(t, first, "topic", "e1")
	<-got

	second := connect(t, instance(), config(s.url()))
	in := subscribe(t, second, sub)
	time.Sleep(3 * time.Second) // three times the ack wait
	if ids := in.ids(); len(ids) != 0 {
		t.Errorf("received %v while the other holds it, want none", ids)
	}
	session := first.session(ctx)
	first.stop() // it will not connect again
	session.lose(errClosed)
	session.dial.close()
	in.wants(t, "e1")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Subscribe() = %v, want nil", err)
	}
}

// The server counts repeats as the second member's even when the first holds and acknowledges them; with as many as its share
// it would send the second nothing any more.
func TestMemberGetsMessagesAfterOthersAcknowledgedItsRepeats(t *testing.T) {
	t.Parallel()
	s := startBroker(t, "")
	first, second := connect(t, instance(), config(s.url())), connect(t, instance(), config(s.url()))
	sub := bus.Subscription{Name: "s", Topics: []string{"topic"}, MaxInFlight: 2, Grace: time.Millisecond}
	got, ready := make(chan *bus.Message, 100), make(chan error, 10)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		sub := sub
		sub.MaxInFlight, sub.Ready = 4, func(err error) { ready <- err }
		ended <- first.Subscribe(ctx, sub, func(m *bus.Message) { got <- m })
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	for range 4 {
		publish(t, first, "topic", "held")
	}
	held := []*bus.Message{<-got, <-got, <-got, <-got}
	in := subscribe(t, second, sub)
	time.Sleep(3 * time.Second) // the server gives the repeats to both
	for range 4 {
		publish(t, first, "topic", "more")
	}
	time.Sleep(time.Second)
	for _, m := range held {
		m.Done(nil)
	}
	eventually(t, "the four others are received", func() bool { return len(got)+len(in.ids()) >= 4 })
	for len(got) > 0 {
		(<-got).Done(nil)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	publish(t, second, "topic", "last")
	eventually(t, "the last is received", func() bool { return slices.Contains(in.ids(), "last") })
	if slices.Contains(in.ids(), "held") {
		t.Error("the second received what the first held")
	}
}
