package kafka

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/kafkaclient"
	"github.com/openfunction/events/pkg/plan"
)

const deadline = 20 * time.Second

func options(topic string, brokers ...string) Options {
	return Options{Instance: "test-0", Source: plan.Source{
		Namespace: "ns", EventSource: "es", Event: "ev", Kind: "kafka",
		Kafka: &plan.Kafka{KafkaAccess: plan.KafkaAccess{Brokers: brokers}, Topic: topic, ConsumerGroup: "group-" + topic},
	}}
}

// running is a Source that runs.
type running struct {
	t     *testing.T
	ready chan error
	err   error
	stop  context.CancelFunc
	done  chan struct{}
}

func start(t *testing.T, o Options, next event.Handler) *running {
	t.Helper()
	return startLogged(t, o, next, zap.NewNop().Sugar())
}

func startLogged(t *testing.T, o Options, next event.Handler, log *zap.SugaredLogger) *running {
	t.Helper()
	ctx, stop := context.WithCancel(logging.WithLogger(context.Background(), log))
	r := &running{t: t, ready: make(chan error, 100), stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = New(o).Run(ctx, next, func(err error) { r.ready <- err })
	}()
	t.Cleanup(r.end)
	return r
}

// end stops the source and waits until it has.
func (r *running) end() {
	r.stop()
	select {
	case <-r.done:
	case <-time.After(deadline):
		r.t.Errorf("Run() has not returned %s after its context was done", deadline)
		return
	}
	if r.err != nil {
		r.t.Errorf("Run() = %v", r.err)
	}
}

// awaitReady waits until ready was called with nil, or with an error if not ok, and returns that.
func (r *running) awaitReady(ok bool) error {
	r.t.Helper()
	timeout := time.After(deadline)
	var last error
	for {
		select {
		case err := <-r.ready:
			if (err == nil) == ok {
				return err
			}
			last = err
		case <-r.done:
			r.t.Fatalf("Run() = %v", r.err)
		case <-timeout:
			r.t.Fatalf("ready was not called, ok %t; last it was called with %v", ok, last)
		}
	}
}

// sink is a handler that records the data of what it takes.
type sink struct {
	mu   sync.Mutex
	got  map[string]int
	list []string
	// refuse, when set, is asked for every event first.
	refuse func(data string) error
}

func (s *sink) Handle(_ context.Context, e *event.Event) error {
	s.mu.Lock()
	refuse := s.refuse
	s.mu.Unlock()
	data := string(e.Data())
	if refuse != nil {
		if err := refuse(data); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.got == nil {
		s.got = map[string]int{}
	}
	s.got[data]++
	s.list = append(s.list, data)
	return nil
}

func (s *sink) count(data string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[data]
}

func (s *sink) distinct() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in %s: %s", deadline, what)
		}
	}
}

func (s *sink) await(t *testing.T, data ...string) {
	t.Helper()
	for _, d := range data {
		eventually(t, fmt.Sprintf("event %q", d), func() bool { return s.count(d) > 0 })
	}
}

func client(t *testing.T, brokers ...string) sarama.Client {
	t.Helper()
	c := sarama.NewConfig()
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	cl, err := sarama.NewClient(brokers, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cl.Close() })
	return cl
}

// accessed is a client that may write.
func accessed(t testing.TB, access plan.KafkaAccess) sarama.Client {
	t.Helper()
	d := kafkaclient.NewDialer(nil)
	c, err := kafkaclient.Config(access, "writer", d)
	if err != nil {
		t.Fatal(err)
	}
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.MaxMessageBytes = 8 << 20
	c.Producer.Retry.Max = 20
	c.Metadata.Full = true
	cl, err := sarama.NewClient(access.Brokers, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cl.Close(); d.Close() })
	return cl
}

// produce writes records to one partition.
func produce(t *testing.T, cl sarama.Client, topic string, partition int32, values ...string) {
	t.Helper()
	p, err := sarama.NewSyncProducerFromClient(cl)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, v := range values {
		if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Partition: partition, Value: sarama.StringEncoder(v)}); err != nil {
			t.Fatalf("produce %s to %s: %v", v, topic, err)
		}
	}
}

// committed returns the group's offset, or -1.
func committed(t *testing.T, cl sarama.Client, group, topic string, partition int32) int64 {
	t.Helper()
	admin, err := sarama.NewClusterAdminFromClient(cl)
	if err != nil {
		t.Fatal(err)
	}
	response, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
	if err != nil {
		t.Fatal(err)
	}
	return response.GetBlock(topic, partition).Offset
}
