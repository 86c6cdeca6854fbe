package natsstreaming

import (
	"regexp"
	"testing"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/plan"
)

func TestIdentity(t *testing.T) {
	queue, topic := plan.NATSStreaming{Queue: true}, plan.NATSStreaming{}
	queueID, topicID := plan.NATSStreaming{Queue: true, ClientID: "mine"}, plan.NATSStreaming{ClientID: "mine"}
	const own, other, configured = `^openfunction-[0-9a-f]{16}$`, `^openfunction-[0-9a-f]{16}-\w{26}$`, `^mine$`
	tests := []struct {
		name    string
		config  plan.NATSStreaming
		refused int
		want    string
	}{
		{"without a client id it is the instance's", queue, 0, own},
		{"the first refusal may be our own attempt", queue, 1, own},
		{"another client has it", queue, 2, other},
		{"without a client id, durables of a topic wait for the other client", topic, 5, own},
		{"a configured id is used", queueID, 1, configured},
		{"another client has the configured id", queueID, 2, `^mine-\w{26}$`},
		{"with durables each instance makes the configured id its own", topicID, 0, `^mine-[0-9a-f]{16}$`},
		{"which stays, and waits for the other client", topicID, 9, `^mine-[0-9a-f]{16}$`},
	}
	for _, tt := range tests {
		id := newIdentity(Options{Name: "bus", Instance: "pod-0", Config: tt.config})
		for range tt.refused {
			id.refuse()
		}
		if !regexp.MustCompile(tt.want).MatchString(id.id) {
			t.Errorf("%s: id = %q, want %s", tt.name, id.id, tt.want)
		}
	}
	a, b := Options{Name: "bus a", Instance: "pod-0"}, Options{Name: "bus b", Instance: "pod-0"}
	if first, again := newIdentity(a).id, newIdentity(a).id; first != again {
		t.Error("the id of an instance is not stable")
	}
	if newIdentity(a).id == newIdentity(b).id {
		t.Error("two buses of one instance have one id")
	}
}

func TestTwoProcessesOfOneNameBothWork(t *testing.T) {
	s := startBroker(t, "")
	first := connect(t, "same", config(s.url()))
	eventually(t, "the first is ready", isReady(first))
	second := connect(t, "same", config(s.url()))
	eventually(t, "the second is ready", isReady(second))
	in := subscribe(t, second, bus.Subscription{Name: "s", Topics: []string{"topic"}})
	publish(t, first, "topic", "e1")
	in.wants(t, "e1")
	if err := first.Ready(); err != nil {
		t.Errorf("the first: Ready() = %v, want nil", err)
	}
}

// A killed process's connection just ends; the server learns of it when the next one has its id.
func TestNextProcessTakesOver(t *testing.T) {
	s := startBroker(t, "")
	first := connect(t, "same", config(s.url()))
	sub := bus.Subscription{Name: "s", Topics: []string{"topic"}}
	subscribe(t, first, sub)
	first.mu.Lock()
	session := first.current
	first.mu.Unlock()
	first.stop() // it will not connect again
	session.lose(errClosed)
	session.dial.close()

	second := connect(t, "same", config(s.url()))
	in := subscribe(t, second, sub)
	publish(t, second, "topic", "e1")
	in.wants(t, "e1")
	if got, want := second.id.id, first.id.id; got != want {
		t.Errorf("the next process has the id %q, want %q", got, want)
	}
}
