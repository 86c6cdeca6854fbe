package kafka

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/eapache/go-resiliency/breaker"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/openfunction/events/pkg/event"
)

// leads has the broker name no leader of the other partitions of a topic, and hang up when something is published on one of them.
func (b *broker) leads(t testing.TB, topic string, partitions map[int32]bool) {
	if b.led.Swap(&partitions) != nil {
		return
	}
	described, err := administrator(t, b.addr()).DescribeTopics([]string{topic})
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(b.addr())
	number, _ := strconv.Atoi(port)
	b.cluster.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.cluster.KeepControl()
		resp := r.ResponseKind().(*kmsg.MetadataResponse)
		broker := kmsg.NewMetadataResponseBroker()
		broker.Host, broker.Port = host, int32(number)
		t := kmsg.NewMetadataResponseTopic()
		t.Topic, t.TopicID = kmsg.StringPtr(topic), described[0].Uuid
		for id, leads := range *b.led.Load() {
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Partition = id
			if !leads {
				p.ErrorCode, p.Leader = kerr.LeaderNotAvailable.Code, -1
			}
			t.Partitions = append(t.Partitions, p)
		}
		resp.ControllerID, resp.Brokers, resp.Topics = broker.NodeID, append(resp.Brokers, broker), append(resp.Topics, t)
		return resp, nil, true
	})
	b.cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.cluster.KeepControl()
		for _, t := range r.(*kmsg.ProduceRequest).Topics {
			for _, p := range t.Partitions {
				if !(*b.led.Load())[p.Partition] {
					return nil, errors.New("it has lost its disk"), true
				}
			}
		}
		return nil, nil, false
	})
}

const noLeader = "there is currently no leader"

// A topic whose broker cannot serve it is refused for that reason also when sarama has given up to ask for a while.
func TestATopicWithoutALeader(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	k := connect(t, config(b.addr()))
	publish(t, k, "topic", "before")
	b.leads(t, "topic", map[int32]bool{0: false})
	for i := range 8 {
		if err := tryOnce(t, k, newEvent(t, fmt.Sprint("e", i), nil)); i > 0 && (err == nil || !strings.Contains(err.Error(), noLeader)) {
			t.Errorf("Handle() = %v, want one that %s", err, noLeader)
		}
	}
}

// What goes wrong on one partition, or with one event, is not what the events of another partition are refused for.
func TestAPartitionWithoutALeader(t *testing.T) {
	t.Parallel()
	b := startBroker(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "60000"}))
	k := connect(t, config(b.addr()))
	publish(t, k, "topic", "before")
	b.leads(t, "topic", map[int32]bool{0: false, 1: true, 2: true})
	keys := keys(t, 3)
	of := func(partition int, id string, size int) *event.Event {
		return newEvent(t, id, make([]byte, size), "partitionkey="+keys[partition])
	}
	for i := range 5 {
		if err := tryOnce(t, k, of(0, fmt.Sprint(i), 0)); err == nil {
			t.Fatal("Handle() = nil on a partition without a leader")
		}
	}
	if err := tryPublish(k, "topic", of(1, "large", 100_000)); !event.IsPermanent(err) || !errors.Is(err, event.ErrTooLarge) {
		t.Errorf("Handle of an event that the broker does not take = %v, want a permanent error", err)
	}
	if err := tryPublish(k, "topic", of(1, "small", 0)); err != nil {
		t.Errorf("Handle on a partition with a leader = %v, want nil", err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			err := tryOnce(t, k, of(0, fmt.Sprint("small-", i), 0))
			if err == nil || event.IsPermanent(err) || !strings.Contains(err.Error(), noLeader) {
				t.Errorf("Handle of a small event = %v, want one that %s", err, noLeader)
			}
		})
	}
	all.Wait()
}

// keys returns a key of each partition.
func keys(t testing.TB, partitions int) []string {
	t.Helper()
	found := make([]string, partitions)
	for i, missing := 0, partitions; missing > 0; i++ {
		key := fmt.Sprint("k", i)
		p, err := sarama.NewMurmur2Partitioner("topic").Partition(&sarama.ProducerMessage{Key: sarama.StringEncoder(key)}, int32(partitions))
		if err != nil {
			t.Fatal(err)
		}
		if found[p] == "" {
			found[p] = key
			missing--
		}
	}
	return found
}

func TestFailuresOfAPartition(t *testing.T) {
	open, leaderless, full := breaker.ErrBreakerOpen, error(sarama.ErrLeaderNotAvailable), error(sarama.ErrKafkaStorageError)
	type step struct {
		id  int32
		err error // nil: a success
		age time.Duration
	}
	for name, tt := range map[string]struct {
		before []step
		want   error
	}{
		"nothing is known":                 {nil, open},
		"the last failure is the reason":   {[]step{{0, full, 0}, {0, leaderless, 0}, {0, open, 0}}, leaderless},
		"of another partition":             {[]step{{1, leaderless, 0}}, open},
		"a success of another partition":   {[]step{{0, leaderless, 0}, {1, full, 0}, {1, nil, 0}}, leaderless},
		"a success":                        {[]step{{0, full, 0}, {0, nil, 0}}, open},
		"a failure of long ago":            {[]step{{0, full, time.Hour}}, open},
		"an event that was too large":      {[]step{{0, sarama.ErrMessageSizeTooLarge, 0}}, open},
		"an event without a key":           {[]step{{0, sarama.ErrInvalidRecord, 0}}, open},
		"a topic that is made again":       {[]step{{0, sarama.ErrUnknownTopicOrPartition, 0}}, open},
		"one that was too large, and more": {[]step{{0, leaderless, 0}, {0, sarama.ErrMessageSizeTooLarge, 0}}, leaderless},
	} {
		t.Run(name, func(t *testing.T) {
			var f failures
			now := time.Now()
			for _, s := range tt.before {
				at := place{"topic", s.id}
				if s.err == nil {
					f.succeeded(at)
				} else if got := f.failed(at, s.err, now.Add(-s.age)); s.err != open && got != s.err {
					t.Errorf("failed(%v) = %v, want it as it is", s.err, got)
				}
			}
			got := f.failed(place{"topic", 0}, open, now)
			if !errors.Is(got, tt.want) {
				t.Errorf("failed(open) = %v, want %v", got, tt.want)
			}
			if tt.want == open && !strings.Contains(got.Error(), "asked again within ten seconds") {
				t.Errorf("failed(open) = %v, want it as a sentence", got)
			}
		})
	}
}

func TestAPartitionFailsForAWhile(t *testing.T) {
	var f failures
	now, at := time.Now(), place{"topic", 0}
	if f.failing(at, now) {
		t.Error("failing() = true before anything failed")
	}
	_ = f.failed(at, sarama.ErrNotEnoughReplicas, now)
	if !f.failing(at, now) || f.failing(place{"topic", 1}, now) || f.failing(at, now.Add(recent)) {
		t.Error("want failing() of that partition only, and not for ever")
	}
	f.succeeded(at)
	if f.failing(at, now) {
		t.Error("failing() = true after a success")
	}
}

func TestSuccessesAreCheapWhenNothingFails(t *testing.T) {
	var f failures
	at := place{"topic", 0}
	_ = f.failed(at, sarama.ErrLeaderNotAvailable, time.Now())
	f.succeeded(at)
	f.mu.Lock() // whoever wants it waits for good
	defer f.mu.Unlock()
	f.succeeded(at)
}
