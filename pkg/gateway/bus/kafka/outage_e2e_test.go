//go:build e2e

package kafka

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/test/servers"
)

// load is what becomes of events that are published so many a second, whatever becomes of those before them.
type load struct {
	stop func() // returns when all have their answer

	mu    sync.Mutex
	taken []string // all of them
	// Since the last report:
	since   time.Time
	taking  [][]time.Duration // by partition, how long each took
	refused map[string]int    // by reason
}

func offer(t *testing.T, k *Bus, topic string, keys []string, rate float64) *load {
	l := &load{since: time.Now(), taking: make([][]time.Duration, len(keys)), refused: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	handler := k.Topic(bus.Topic{Name: topic})
	var running sync.WaitGroup
	running.Go(func() {
		began := time.Now()
		for n := 0; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
			for ; float64(n) < time.Since(began).Seconds()*rate; n++ {
				e, partition := newEvent(t, fmt.Sprint(n), make([]byte, 256), "partitionkey="+keys[n%len(keys)]), n%len(keys)
				running.Go(func() {
					asked := time.Now()
					err := handler.Handle(context.Background(), e)
					l.mu.Lock()
					defer l.mu.Unlock()
					if err != nil {
						l.refused[err.Error()[max(0, len(err.Error())-60):]]++
						return
					}
					l.taken = append(l.taken, e.ID())
					l.taking[partition] = append(l.taking[partition], time.Since(asked))
				})
			}
		}
	})
	l.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	return l
}

// report returns how many events of other partitions than 0 were taken a second since the last report, and logs all else.
func (l *load) report(t *testing.T, when string) (others float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seconds := time.Since(l.since).Seconds()
	all := slices.Concat(l.taking[1:]...)
	slices.Sort(all)
	others, first := float64(len(all))/seconds, float64(len(l.taking[0]))/seconds
	all = append(all, 0)
	t.Logf("%s: of others %.0f/s are taken within %s (half) and %s (99%%), of partition 0 %.0f/s; refused: %v",
		when, others, all[len(all)/2], all[len(all)*99/100], first, l.refused)
	l.since = time.Now()
	clear(l.taking)
	clear(l.refused)
	return others
}

// othersGoOn kills the only broker that has one of six partitions.
func othersGoOn(t *testing.T, c *servers.KafkaClusterServers) {
	const rate = 1000
	replicas := map[int32][]int32{0: {1}, 1: {2}, 2: {3}, 3: {2}, 4: {3}, 5: {2}}
	detail := &sarama.TopicDetail{NumPartitions: -1, ReplicationFactor: -1, ReplicaAssignment: replicas}
	if err := administrator(t, c.Addrs()[1]).CreateTopic("outage", detail, false); err != nil {
		t.Fatal(err)
	}
	k := connect(t, clusterConfig(c))
	s := bus.Subscription{Name: "outage", Topics: []string{"outage"}}
	in := subscribe(t, k, s, nil)
	l := offer(t, k, "outage", keys(t, len(replicas)), rate)
	defer l.stop()
	cl := client(t, c.Addrs()[1])
	led := func() bool {
		_ = cl.RefreshMetadata("outage") // an error is that there is no leader
		return !cl.PartitionNotReadable("outage", 0)
	}
	time.Sleep(time.Second)
	l.report(t, "at first")
	time.Sleep(3 * time.Second)
	before := l.report(t, "before")
	c.Kill(0)
	eventually(t, "the partition has no leader", func() bool { return !led() }) // the others notice after nine seconds
	time.Sleep(5 * time.Second)
	without := l.report(t, "without the broker")
	if without < before/2 {
		t.Errorf("of the other partitions %.0f/s are taken before one has no leader, and then %.0f/s: want half as many at least", before, without)
	}
	another := start(t, connect(t, clusterConfig(c)), s, nil)
	eventually(t, "the others are shared out anew, and received by both", func() bool { return len(another.ids()) > 100 })
	received := len(in.ids())
	eventually(t, "the first receives too", func() bool { return len(in.ids()) > received })
	for _, i := range []*inbox{in, another} {
		eventually(t, "it says which partition it does not read", func() bool {
			err := i.ready()
			return err != nil && strings.Contains(err.Error(), "topic outage, partition 0: no leader")
		})
	}
	c.Start(0)
	eventually(t, "the partition has a leader", led)
	back := time.Now()
	eventually(t, "events are taken again", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.taking[0]) > 0
	})
	t.Logf("the first event is taken %s after there is a leader", time.Since(back))
	l.stop()
	l.report(t, "until then")
	c.Await()
	eventually(t, "every event that was taken is received", func() bool {
		got := map[string]bool{}
		for _, id := range append(in.ids(), another.ids()...) {
			got[id] = true
		}
		return !slices.ContainsFunc(l.taken, func(id string) bool { return !got[id] })
	})
}
