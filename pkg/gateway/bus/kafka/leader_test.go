package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/once"
)

// Two replicas of a subscriber share the partitions, and each knows only what it receives itself.
func TestAnEventThatTwoPublishIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	publishedTwice(t, startBroker(t).addr())
}

func publishedTwice(t *testing.T, addr string) {
	for try := range 3 {
		if deliveredOnce(t, addr, fmt.Sprint("twice-", try)) {
			return
		}
	}
	t.Error("partitions moved between two receivers each time, want them to stay where they are")
}

// deliveredOnce returns false if partitions moved between the receivers meanwhile.
func deliveredOnce(t *testing.T, addr, topic string) bool {
	const events, partitions = 1000, 6
	c := config(addr)
	c.Partitions = partitions
	var members []*inbox
	for range 2 {
		members = append(members, subscribe(t, once.New(connect(t, c)), bus.Subscription{Name: topic, Topics: []string{topic}}, nil))
	}
	var publishers sync.WaitGroup
	for range 2 {
		k := connect(t, c)
		var next atomic.Int32
		for range 32 {
			publishers.Go(func() {
				for n := next.Add(1) - 1; n < events; n = next.Add(1) - 1 {
					if err := tryPublish(k, topic, newEvent(t, fmt.Sprint(n), nil)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	publishers.Wait()
	for i, key := range keys(t, partitions) { // who has that has all before it
		if err := tryPublish(connect(t, c), topic, newEvent(t, fmt.Sprint("last-", i), nil, "partitionkey="+key)); err != nil {
			t.Fatal(err)
		}
	}
	received, spread, receiver := map[string]int{}, map[uint64]int{}, map[uint64]int{}
	stayed := true
	eventually(t, "all is received", func() bool {
		clear(received)
		clear(spread)
		for i, in := range members {
			for _, m := range in.got() {
				received[m.Event.ID()]++
				partition := m.Sequence >> 48
				spread[partition]++
				if was, ok := receiver[partition]; ok && was != i {
					stayed = false
				}
				receiver[partition] = i
			}
		}
		return len(received) == events+partitions
	})
	if !stayed {
		return false
	}
	for id, n := range received {
		if n != 1 {
			t.Errorf("event %s is delivered %d times, want once", id, n)
		}
	}
	for partition := range uint64(partitions) {
		if n := spread[partition]; n < events/partitions/2 || n > events/partitions*2 {
			t.Errorf("%d of %d events are on partition %d of %d", n, events, partition, partitions)
		}
	}
	if len(members[0].got()) == 0 || len(members[1].got()) == 0 {
		t.Error("one of the receivers has got nothing, want both to receive")
	}
	return true
}

// flood has many publish events with the keys again and again, each of them until it is taken, and returns how many are by key.
func flood(t *testing.T, k *Bus, keys []string, publishers int) (taken []atomic.Int64, stop func()) {
	taken = make([]atomic.Int64, len(keys))
	var ended atomic.Bool
	var all sync.WaitGroup
	for w := range publishers {
		all.Go(func() {
			for n := 0; !ended.Load(); n++ {
				i := (w + n) % len(keys)
				if tryOnce(t, k, newEvent(t, fmt.Sprint(w, "-", n), nil, "partitionkey="+keys[i])) == nil {
					taken[i].Add(1)
				}
			}
		})
	}
	return taken, sync.OnceFunc(func() { ended.Store(true); all.Wait() })
}

// The publishers of a partition without a leader, who are more than may wait for a producer's acknowledgements, do not hold up others.
func TestOthersGoOnWhileAPartitionHasNoLeader(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	k := connect(t, config(b.addr()))
	publish(t, k, "topic", "before")
	b.leads(t, "topic", map[int32]bool{0: false, 1: true, 2: true})
	keys := keys(t, 3)
	var waiting sync.WaitGroup
	for i := range 2 * windowSize { // when it is not known yet
		waiting.Go(func() {
			if tryOnce(t, k, newEvent(t, fmt.Sprint(i), nil, "partitionkey="+keys[0])) == nil {
				t.Error("Handle() = nil on a partition without a leader")
			}
		})
	}
	taken, stop := flood(t, k, keys, 8)
	defer stop()
	eventually(t, "others are taken", func() bool { return taken[1].Load() > 1000 && taken[2].Load() > 1000 })
	if n := taken[0].Load(); n > 0 {
		t.Errorf("%d events are taken without a leader", n)
	}
	for i := range 100 {
		if err := tryPublish(k, "topic", newEvent(t, fmt.Sprint(i), nil)); err != nil {
			t.Errorf("Handle of an event without a key = %v, want it on a partition with a leader", err)
		}
	}
	waiting.Wait()
	b.leads(t, "topic", map[int32]bool{0: true, 1: true, 2: true})
	time.Sleep(2 * askAgain) // from then on the brokers are asked again
	if err := tryOnce(t, k, newEvent(t, "after", nil, "partitionkey="+keys[0])); err != nil {
		t.Errorf("Handle() = %v as soon as there is a leader again, want nil", err)
	}
	eventually(t, "all are taken", func() bool { return taken[0].Load() > 100 })
}

// A broker that comes again while a partition of the topic has no leader is found by those that it leads, also by a process that has just begun.
func TestOthersAreFoundWhileAPartitionHasNoLeader(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	k := connect(t, config(b.addr()))
	publish(t, k, "topic", "before")
	keys := keys(t, 3)
	b.leads(t, "topic", map[int32]bool{0: false, 1: true, 2: true})
	var hungUp atomic.Bool
	b.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		if hungUp.CompareAndSwap(false, true) {
			return nil, errors.New("it hangs up"), true
		}
		return nil, nil, false
	})
	for i, k := range []*Bus{k, connect(t, config(b.addr()))} {
		if err := tryOnce(t, k, newEvent(t, fmt.Sprint(i), nil, "partitionkey="+keys[1])); err != nil {
			t.Errorf("Handle on a partition with a leader = %v, want nil", err)
		}
	}
}

// startRefusing starts two brokers. The first has partition 0 of the topic "topic", and takes nothing on it. A broker takes all on 1 and 2, and
// forgets it.
func startRefusing(t testing.TB, others int32) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(3, "topic"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	for partition, node := range map[int32]int32{0: 0, 1: others, 2: others} {
		if err := cluster.MoveTopicPartition("topic", partition, node); err != nil {
			t.Fatal(err)
		}
	}
	var taken atomic.Int64
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := r.ResponseKind().(*kmsg.ProduceResponse)
		for _, asked := range r.(*kmsg.ProduceRequest).Topics {
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic = asked.Topic
			for _, p := range asked.Partitions {
				answer := kmsg.NewProduceResponseTopicPartition()
				answer.Partition, answer.BaseOffset = p.Partition, taken.Add(windowSize)
				if p.Partition == 0 {
					answer.ErrorCode = kerr.NotEnoughReplicas.Code
				}
				topic.Partitions = append(topic.Partitions, answer)
			}
			response.Topics = append(response.Topics, topic)
		}
		return response, nil, true
	})
	return cluster
}

// A partition that has a leader which takes nothing does not hold up others either, whether or not they have the same leader.
func TestOthersGoOnWhileAPartitionTakesNothing(t *testing.T) {
	t.Parallel()
	for name, others := range map[string]int32{"same leader": 0, "another leader": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			othersGoOnBesideOneThatRefuses(t, startRefusing(t, others))
		})
	}
}

func othersGoOnBesideOneThatRefuses(t *testing.T, cluster *kfake.Cluster) {
	k := connect(t, config(cluster.ListenAddrs()[0]))
	keys := keys(t, 3)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for w := range 2 * windowSize {
		waiting.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				e := newEvent(t, fmt.Sprint(w, "-", n), nil, "partitionkey="+keys[0])
				if k.Topic(bus.Topic{Name: "topic"}).Handle(ctx, e) == nil {
					t.Error("Handle() = nil on a partition that takes nothing")
				}
			}
		})
	}
	eventually(t, "no more may wait for the partition", func() bool {
		l := k.await(ctx)
		l.shared.window.mu.Lock()
		defer l.shared.window.mu.Unlock()
		return len(l.shared.window.waiting) > 0
	})
	taken, stop := flood(t, k, keys[1:], 8)
	defer stop()
	eventually(t, "others are taken", func() bool { return taken[0].Load() > 1000 && taken[1].Load() > 1000 })
}

// Nor are events without a key refused for ever because their hash is such a partition.
func TestEventsWithoutAKeyAvoidAPartitionThatTakesNothing(t *testing.T) {
	t.Parallel()
	k := connect(t, config(startRefusing(t, 1).ListenAddrs()[0]))
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			if err := tryPublish(k, "topic", newEvent(t, fmt.Sprint(i), nil)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// Who waits for its turn on a partition that then has no leader goes to another one, if it has no key.
func TestAnEventWithoutAKeyThatWaitsForAPartitionLeavesIt(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	k := connect(t, config(b.addr()))
	publish(t, k, "topic", "before")
	b.leads(t, "topic", map[int32]bool{0: true, 1: true, 2: true})
	p := k.await(t.Context()).shared
	at := place{"topic", 0}
	for p.window.enter(at) == nil {
	}
	p.window.mu.Lock()
	under := p.window.lanes[at].used
	p.window.mu.Unlock()
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			if err := tryOnce(t, k, newEvent(t, fmt.Sprint(i), nil)); err != nil && strings.Contains(err.Error(), noLeader) {
				t.Error(err)
			}
		})
	}
	eventually(t, "some wait", func() bool {
		p.window.mu.Lock()
		defer p.window.mu.Unlock()
		return len(p.window.lanes[at].queue) > 5
	})
	b.leads(t, "topic", map[int32]bool{0: false, 1: true, 2: true})
	_ = p.client.RefreshMetadata("topic") // an error is that there is no leader
	for range under + 1 {                 // one turn was asked for, and is taken by nobody
		p.window.leave(at)
	}
	all.Wait()
}

// The first event that is larger than a batch asks who leads the topic's partitions; that one of them has no leader concerns no other.
func TestALargeEventIsTakenWhileAnotherPartitionHasNoLeader(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	k := connect(t, config(b.addr()))
	publish(t, k, "topic", "before")
	b.leads(t, "topic", map[int32]bool{0: false, 1: true, 2: true})
	err := tryOnce(t, k, newEvent(t, "large", make([]byte, batchSize), "partitionkey="+keys(t, 3)[1]))
	if err != nil && !event.IsPermanent(err) { // whether it is too large is not asked here
		t.Errorf("Handle of a large event on a partition with a leader = %v, want nil", err)
	}
}

// Who waits until the brokers say who leads a topic's partitions waits no longer than the caller wants, and is told what is wrong.
func TestBrokersThatDoNotSayWhoLeads(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	k := connect(t, config(b.addr()))
	publish(t, k, "topic", "before")
	p := k.await(t.Context()).shared
	hung := make(chan struct{})
	defer close(hung)
	b.cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.cluster.KeepControl()
		b.cluster.SleepControl(func() { <-hung })
		return nil, nil, false
	})
	gone, leave := context.WithCancel(t.Context())
	leave()
	over := make(chan time.Time)
	close(over)
	for name, tt := range map[string]struct {
		ctx  context.Context
		late <-chan time.Time
		want string
	}{
		"the caller is gone": {gone, nil, context.Canceled.Error()},
		"the time is over":   {t.Context(), over, "did not say who leads"},
	} {
		m, err := encode("unknown", newEvent(t, name, nil))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.begin(tt.ctx, m, tt.late); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: begin() = %v, want %q", name, err, tt.want)
		}
	}
}
