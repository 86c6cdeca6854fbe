//go:build e2e

package kafka

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// A real broker, which is killed with SIGKILL, also under load.
func TestE2EBroker(t *testing.T) {
	t.Parallel()
	s := servers.SecuredKafka(t, "offsets.retention.minutes=1", "offsets.retention.check.interval.ms=1000")
	comeBack := leave(t, s.KafkaServer)
	t.Run("a plain consumer reads the binding", func(t *testing.T) { plainConsumer(t, s.KafkaServer) })
	t.Run("a topic that is removed is made again", func(t *testing.T) { removedTopic(t, s.Addr()) })
	t.Run("a topic that comes again begins anew", func(t *testing.T) { comesAgain(t, s.Addr()) })
	t.Run("an event that two publish is delivered once", func(t *testing.T) { publishedTwice(t, s.Addr()) })
	t.Run("a process that holds messages is killed", func(t *testing.T) { processKilled(t, s.KafkaServer) })
	t.Run("conformance", func(t *testing.T) {
		s.SetPassword("user", right)
		s.SetPassword("other", otherRight)
		f := securedFixture(t, config(s.SASLSSL), s.Authority)
		f.Stop, f.Start, f.Outage = func(testing.TB) { s.Kill() }, func(testing.TB) { s.Start() }, 20*time.Second
		bustest.Run(t, f)
	})
	t.Run("subscriptions that were away for long lose nothing", comeBack)
}

// What loses or repeats events is not kept from whoever looks after them.
func TestE2EWarnings(t *testing.T) {
	t.Parallel()
	s := servers.Kafka(t, "offset.metadata.max.bytes=64")
	t.Run("little room for metadata", func(t *testing.T) {
		littleMetadata(t, s.Addr(), func() { s.Kill(); s.Configure(""); s.Start() })
	})
	t.Run("a compacted topic", func(t *testing.T) { compactedTopic(t, s.Addr()) })
}

// compactedTopic is one that somebody made before the bus came.
func compactedTopic(t *testing.T, addr string) {
	policy := "compact"
	detail := &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1, ConfigEntries: map[string]*string{"cleanup.policy": &policy}}
	if err := administrator(t, addr).CreateTopic("compacted", detail, false); err != nil {
		t.Fatal(err)
	}
	logs, seen := observer.New(zap.WarnLevel)
	k := connectLogged(t, config(addr), zap.New(logs))
	in := subscribe(t, k, bus.Subscription{Name: "compacted", Topics: []string{"compacted"}}, nil)
	publish(t, k, "compacted", "e1", "e2")
	in.wants(t, "e1", "e2")
	if got := onlyLog(t, seen, compacted); got["topic"] != "compacted" || got["cleanup.policy"] != "compact" {
		t.Errorf("logged %v, want which topic is compacted", got)
	}
	err := k.Topic(bus.Topic{Name: "compacted"}).Handle(t.Context(), newEvent(t, "keyless", nil))
	var away *event.Unavailable
	if !errors.As(err, &away) || !strings.Contains(err.Error(), "set its cleanup.policy to delete") {
		t.Errorf("Handle of an event without a partitionkey = %v, want *event.Unavailable with the cure", err)
	}
	if seen.Len() != 1 {
		t.Errorf("logged %v, want one line", seen.All())
	}
}

func clusterConfig(c *servers.KafkaClusterServers) plan.KafkaBus {
	all := config("")
	all.Brokers, all.ReplicationFactor = c.Addrs(), 3
	return all
}

func TestE2ECluster(t *testing.T) {
	t.Parallel()
	c := servers.KafkaCluster(t)
	t.Run("conformance", func(t *testing.T) {
		c.SetPassword("user", right)
		c.SetPassword("other", otherRight)
		secured := clusterConfig(c)
		secured.Brokers = c.SASLSSL()
		bustest.Run(t, securedFixture(t, secured, c.Authority))
	})
	t.Run("each broker in turn is killed under load and nothing is lost", func(t *testing.T) { oneAfterTheOther(t, c) })
	t.Run("all brokers are killed under load, come back, and nothing is lost", func(t *testing.T) {
		f := fixture(clusterConfig(c))
		f.Outage = 20 * time.Second
		f.Stop = func(testing.TB) {
			for i := range c.Addrs() {
				c.Kill(i)
			}
		}
		f.Start = func(testing.TB) {
			for i := range c.Addrs() {
				c.Start(i)
			}
			c.Await()
		}
		bustest.RunOutage(t, f)
	})
	t.Run("others go on while a partition has no leader", func(t *testing.T) { othersGoOn(t, c) })
	t.Run("two of three replicas must have an event", func(t *testing.T) {
		if got := topicConfig(t, administrator(t, c.Addrs()[0]), "turns", "min.insync.replicas")["min.insync.replicas"]; got != "2" {
			t.Errorf("min.insync.replicas = %q, want 2", got)
		}
	})
}

// oneAfterTheOther kills each of the brokers while many publish. A subscription must get all that was taken.
func oneAfterTheOther(t *testing.T, c *servers.KafkaClusterServers) {
	k := connect(t, clusterConfig(c))
	in := subscribe(t, k, bus.Subscription{Name: "turns", Topics: []string{"turns"}}, nil)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var mu sync.Mutex
	var taken []string
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("%d-%d", w, i)
				err := k.Topic(bus.Topic{Name: "turns"}).Handle(context.Background(), newEvent(t, id, nil))
				var away *event.Unavailable
				switch {
				case err == nil:
					mu.Lock()
					taken = append(taken, id)
					mu.Unlock()
				case !errors.As(err, &away):
					t.Errorf("Handle(%s) = %v, want nil or *event.Unavailable", id, err)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(taken)
	}
	for i := range c.Addrs() {
		c.Kill(i)
		before := count()
		eventually(t, "events are taken without one of the brokers", func() bool { return count() > before+200 })
		c.Start(i)
		c.Await()
	}
	stop()
	wg.Wait()
	got := map[string]bool{}
	eventually(t, "every event that was taken is received", func() bool {
		for _, id := range in.ids() {
			got[id] = true
		}
		return !slices.ContainsFunc(taken, func(id string) bool { return !got[id] })
	})
	t.Logf("%d events were taken, %d messages received", len(taken), len(in.ids()))
}

// A plain consumer knows nothing of us but the binding.
func plainConsumer(t *testing.T, s *servers.KafkaServer) {
	k := connect(t, config(s.Addr()))
	e := newEvent(t, "e1", []byte(`{"cpu":1}`), "partitionkey=node 7", "subject=é ☃")
	if err := tryPublish(k, "metrics", e); err != nil {
		t.Fatal(err)
	}
	consumer, err := sarama.NewConsumerFromClient(client(t, s.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	partitions, err := consumer.Partitions("metrics")
	if err != nil {
		t.Fatal(err)
	}
	messages := make(chan *sarama.ConsumerMessage)
	for _, p := range partitions {
		pc, err := consumer.ConsumePartition("metrics", p, sarama.OffsetOldest)
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		go func() {
			for m := range pc.Messages() {
				messages <- m
			}
		}()
	}
	m := <-messages
	headers := map[string]string{}
	for _, h := range m.Headers {
		headers[string(h.Key)] = string(h.Value)
	}
	for name, want := range map[string]string{
		"ce_specversion": "1.0", "ce_id": "e1", "ce_source": "/test", "ce_type": "test", "ce_subject": "é ☃", "content-type": "text/plain",
	} {
		if headers[name] != want {
			t.Errorf("header %s = %q, want %q", name, headers[name], want)
		}
	}
	if string(m.Key) != "node 7" || string(m.Value) != `{"cpu":1}` {
		t.Errorf("key %q and value %s, want the partition key and the data", m.Key, m.Value)
	}
}

// leave has subscriptions that end, one of them with its process. What it returns wants them to get all that was published since, though
// the broker has forgotten what it was not asked to remember.
func leave(t *testing.T, s *servers.KafkaServer) func(*testing.T) {
	c := config(s.Addr())
	k := connect(t, c)
	file := t.TempDir() + "/received"
	p := startSubscriber(t, s.Addr(), "cut-off", "cut-off", file)
	publish(t, k, "cut-off", numbers(400)...)
	done := bus.Subscription{Name: "ended", Topics: []string{"ended"}}
	in := subscribe(t, k, done, nil)
	publish(t, k, "ended", "before")
	in.wants(t, "before")
	if err := in.stop(); err != nil {
		t.Fatal(err)
	}
	awaitCommits(t, s.Addr(), "cut-off", "cut-off", 400)
	p.Kill()
	publish(t, k, "ended", "a", "b", "c")
	publish(t, k, "cut-off", "a", "b", "c")
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	outlast := s.Absence("ended", "openfunction.ended", "openfunction.cut-off")
	return func(t *testing.T) {
		outlast()
		k := connect(t, c)
		subscribe(t, k, done, nil).wants(t, "a", "b", "c")
		again := bus.Subscription{Name: "cut-off", Topics: []string{"cut-off"}}
		subscribe(t, k, again, nil).wants(t, append(slices.Clone(heldBySubscriber), "a", "b", "c")...)
	}
}

// awaitCommits waits until all that a subscriber process was sent is committed, without what it holds.
func awaitCommits(t *testing.T, addr, name, topic string, sent int64) {
	t.Helper()
	eventually(t, "what the process has done is committed", func() bool {
		var next int64
		open := 0
		for partition := range config(addr).Partitions {
			at := position(t, addr, "openfunction."+name, topic, partition)
			next, open = next+at.next, open+len(at.open)
		}
		return next == sent && open == len(heldBySubscriber)
	})
}

// A process that holds messages is killed. Another one gets those again, what it had no time to commit, and the rest.
func processKilled(t *testing.T, s *servers.KafkaServer) {
	c := config(s.Addr())
	k := connect(t, c)
	file := t.TempDir() + "/received"
	p := startSubscriber(t, s.Addr(), "s", "topic", file)
	publish(t, k, "topic", numbers(400)...)
	eventually(t, "the process has received all", func() bool { return len(lines(t, file)) == 400 })
	awaitCommits(t, s.Addr(), "s", "topic", 400)
	p.Kill()
	publish(t, k, "topic", "while nobody listens")
	in := subscribe(t, connect(t, c), bus.Subscription{Name: "s", Topics: []string{"topic"}}, nil)
	in.wants(t, append(slices.Clone(heldBySubscriber), "while nobody listens")...)
}

// heldBySubscriber are the messages that the process does not acknowledge.
var heldBySubscriber = []string{"0", "100", "200", "300"}

func lines(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []string
	for scanner := bufio.NewScanner(f); scanner.Scan(); {
		all = append(all, scanner.Text())
	}
	return all
}

func startSubscriber(t *testing.T, addr, name, topic, file string) *servers.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSubscriberProcess$")
	ready := t.TempDir() + "/ready"
	cmd.Env = append(os.Environ(), "SUBSCRIBER="+strings.Join([]string{addr, name, topic, file, ready}, " "))
	return servers.StartProcess(t, cmd, func() error {
		_, err := os.Stat(ready)
		return err
	})
}

// TestSubscriberProcess is what startSubscriber runs; by itself it does nothing.
func TestSubscriberProcess(t *testing.T) {
	args := strings.Fields(os.Getenv("SUBSCRIBER"))
	if len(args) == 0 {
		return
	}
	f, err := os.Create(args[3])
	if err != nil {
		t.Fatal(err)
	}
	k := connect(t, config(args[0]))
	err = k.Subscribe(context.Background(), bus.Subscription{Name: args[1], Topics: []string{args[2]}, Ready: func(err error) {
		if err == nil {
			_ = os.WriteFile(args[4], nil, 0o600)
		}
	}}, func(m *bus.Message) {
		if _, err := fmt.Fprintln(f, m.Event.ID()); err == nil && !slices.Contains(heldBySubscriber, m.Event.ID()) {
			m.Done(nil)
		}
	})
	t.Fatalf("Subscribe() = %v", err)
}

func BenchmarkE2EPublishConsume(b *testing.B) { publishConsume(b, servers.Kafka(b).Addr()) }
