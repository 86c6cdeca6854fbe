package v1alpha1

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEventBusState(t *testing.T) {
	b := &EventBus{}
	for _, tt := range []struct {
		mark func()
		want [3]string
	}{
		{func() { b.Status.MarkWaiting("no %s yet", "gateway") }, [3]string{"Pending", "Unknown", "Waiting"}},
		{func() { b.Status.MarkUnreachable("Refused", "dial %s", "n:4222") }, [3]string{"Error", "False", "Refused"}},
		{func() { b.Status.MarkWaiting("applying") }, [3]string{"Pending", "Unknown", "Waiting"}},
		{func() { b.Status.MarkReachable() }, [3]string{"Running", "True", ""}},
		{func() { b.Status.MarkLosing("50% of them") }, [3]string{"Running", "True", ""}},
	} {
		tt.mark()
		r := ready(b)
		if got := [3]string{b.Status.State, r[0], r[1]}; got != tt.want {
			t.Errorf("state and Ready = %v, want %v", got, tt.want)
		}
	}
}

func TestABusThatLosesEventsSaysHowUntilItDoesNot(t *testing.T) {
	b := &EventBus{}
	said := func() [2]string {
		c := b.Status.GetCondition(EventBusReachable)
		return [2]string{c.Reason, c.Message}
	}
	b.Status.MarkLosing("50% of them")
	if got, want := said(), [2]string{ReasonLosesEvents, "50% of them"}; got != want {
		t.Errorf("Reachable = %q, want %q", got, want)
	}
	b.Status.MarkReachable()
	if got, want := said(), [2]string{}; got != want {
		t.Errorf("Reachable = %q, want %q", got, want)
	}
}

// TestABusThatIsFullIsReady, since it answers, and goes on delivering.
func TestABusThatIsFullIsReady(t *testing.T) {
	b := &EventBus{}
	b.Status.MarkFull("no room for 100%")
	b.Status.MarkServers(Good())
	c := b.Status.GetCondition(EventBusReachable)
	if got, want := []string{b.Status.State, ready(b)[0], string(c.Status), c.Reason, c.Message}, []string{"Running", "True", "True", "Full", "no room for 100%"}; !slices.Equal(got, want) {
		t.Errorf("state, Ready and Reachable = %q, want %q", got, want)
	}
	b.Status.MarkReachable()
	if c := b.Status.GetCondition(EventBusReachable); c.Reason != "" || c.Message != "" {
		t.Errorf("Reachable with room = %+v, want nothing to say", c)
	}
}

func TestMarkUsersNamesTheFirstTen(t *testing.T) {
	var eventSources []string
	for i := range 9 {
		eventSources = append(eventSources, fmt.Sprintf("EventSource a/%d", 8-i))
	}
	s := &EventBusStatus{}
	s.MarkUsers(eventSources, []string{"Trigger a/y", "Trigger a/x"})
	want := &EventBusStatus{Users: 11, EventSources: 9, Triggers: 2, UsedBy: []string{
		"EventSource a/0", "EventSource a/1", "EventSource a/2", "EventSource a/3", "EventSource a/4",
		"EventSource a/5", "EventSource a/6", "EventSource a/7", "EventSource a/8", "Trigger a/x",
	}}
	if diff := cmp.Diff(s, want); diff != "" {
		t.Errorf("MarkUsers (-got +want):\n%s", diff)
	}
	s.MarkUsers(nil, nil)
	if diff := cmp.Diff(s, &EventBusStatus{}); diff != "" {
		t.Errorf("without users (-got +want):\n%s", diff)
	}
}

// TestServersDoNotDecide wants Ready to be about whether the bus answers: one of three servers may be away.
func TestServersDoNotDecide(t *testing.T) {
	b := &EventBus{}
	b.Status.MarkReachable()
	for _, v := range []Verdict{Pending("Starting", "2 of 3"), Bad("NotRunning", "2 of 3"), Good()} {
		b.Status.MarkServers(v)
		c := b.Status.GetCondition(EventBusServersReady)
		if c == nil || c.Status != v.Status || c.Reason != v.Reason || c.Message != v.Message {
			t.Errorf("ServersReady = %+v, want %+v", c, v)
		}
		if r := ready(b); r[0] != "True" || b.Status.State != "Running" {
			t.Errorf("with servers %+v, Ready = %v and the state %s", v, r, b.Status.State)
		}
	}
}
