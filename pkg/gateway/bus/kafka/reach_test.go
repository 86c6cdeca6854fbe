package kafka

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/kafkaclient"
)

// A subscription that begins while a partition has no leader reads the others, and that one as soon as it has a leader.
func TestOthersAreReadWhileAPartitionHasNoLeader(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	s := bus.Subscription{Name: "s", Topics: []string{"topic"}}
	k := connect(t, config(b.addr()))
	first := subscribe(t, k, s, nil)
	keys := keys(t, 3)
	send := func(k *Bus, partition int, id string) {
		t.Helper()
		if err := tryPublish(k, "topic", newEvent(t, id, nil, "partitionkey="+keys[partition])); err != nil {
			t.Fatal(err)
		}
	}
	send(k, 0, "before")
	first.wants(t, "before")
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	send(k, 0, "unread")
	b.leads(t, "topic", map[int32]bool{0: false, 1: true, 2: true})

	logs, seen := observer.New(zap.WarnLevel)
	k = connectLogged(t, config(b.addr()), zap.New(logs))
	in := start(t, k, s, nil)
	send(k, 1, "of 1")
	send(k, 2, "of 2")
	eventually(t, "the others are received", func() bool { return len(in.ids()) >= 2 })
	for _, p := range []int32{1, 2} {
		eventually(t, fmt.Sprint("what is done of partition ", p, " is committed"), func() bool {
			return position(t, b.addr(), "openfunction.s", "topic", p).Equal(progress{next: 1})
		})
	}
	another := start(t, connect(t, config(b.addr())), s, nil) // which is a rebalance
	eventually(t, "others are received by both", func() bool {
		send(k, 1, "more of 1")
		send(k, 2, "more of 2")
		return len(in.ids()) > 2 && len(another.ids()) > 0
	})
	for _, i := range []*inbox{in, another} {
		if err := i.ready(); err == nil || !strings.Contains(err.Error(), "topic topic, partition 0") {
			t.Errorf("the subscription says %v, want which partition it does not read", err)
		}
	}
	if all := append(in.ids(), another.ids()...); slices.Contains(all, "before") || slices.Contains(all, "unread") {
		t.Errorf("received %v of a partition without a leader", all)
	}
	got := onlyLog(t, seen, "partition has no leader")
	if got["topic"] != "topic" || fmt.Sprint(got["partitions"]) != "[0]" || got["cure"] == nil {
		t.Errorf("logged %v, want the topic, the partition and the cure", got)
	}

	b.leads(t, "topic", map[int32]bool{0: true, 1: true, 2: true})
	eventually(t, "what was not read is received", func() bool { return slices.Contains(append(in.ids(), another.ids()...), "unread") })
	eventually(t, "both are ready", func() bool { return in.ready() == nil && another.ready() == nil })
	if all := append(in.ids(), another.ids()...); slices.Contains(all, "before") {
		t.Errorf("received %v, want nothing again", all)
	}
}

// A subscription that is new to a topic begins at its end, which nobody knows of a partition without a leader.
func TestANewSubscriptionWaitsForAllLeaders(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	k := connect(t, config(b.addr()))
	publish(t, k, "topic", "before")
	b.leads(t, "topic", map[int32]bool{0: false, 1: true, 2: true})
	in := start(t, connect(t, config(b.addr())), bus.Subscription{Name: "s", Topics: []string{"topic"}}, nil)
	eventually(t, "it says which partition it waits for", func() bool {
		err := in.ready()
		return err != nil && strings.Contains(err.Error(), "topic topic, partition 0: ") && strings.Contains(err.Error(), kafkaclient.LeaderCure)
	})
	b.leads(t, "topic", map[int32]bool{0: true, 1: true, 2: true})
	eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
	publish(t, k, "topic", "after")
	in.wants(t, "after")
}
