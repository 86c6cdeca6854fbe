//go:build e2e

package kafka

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/source"
	"github.com/openfunction/events/pkg/gateway/source/internal/runtest"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

func TestE2EKafka(t *testing.T) {
	t.Parallel()
	k := servers.Kafka(t, "offsets.retention.minutes=1", "offsets.retention.check.interval.ms=1000")
	comeBack := leave(t, k)
	for name, test := range map[string]func(*testing.T, *servers.KafkaServer){
		"two members and a third that leaves get every record":  rebalance,
		"a broker that is killed comes back":                    brokerKilled,
		"a process that is killed loses nothing":                processKilled,
		"large binary values arrive unchanged":                  largeBinary,
		"CloudEvents in both modes arrive as they are":          cloudEvents,
		"records of aborted transactions are no events":         aborted,
		"a topic and partitions that come later are read whole": later,
		"a topic that is made again has other ids":              remade,
	} {
		t.Run(name, func(t *testing.T) { test(t, k) })
	}
	t.Run("groups that were away for long lose nothing", comeBack)
}

func numbers(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(i)
	}
	return all
}

func records(topic string, values []string) []*sarama.ProducerMessage {
	var all []*sarama.ProducerMessage
	for i, v := range values {
		key := ""
		if i%2 == 0 {
			key = fmt.Sprint("key-", i%40)
		}
		all = append(all, servers.KafkaRecord(topic, key, v))
	}
	return all
}

func rebalance(t *testing.T, k *servers.KafkaServer) {
	const n = 2000
	k.CreateTopic("rebalance", 6)
	a, b, c := &runtest.Sink{}, &runtest.Sink{}, &runtest.Sink{}
	first := start(t, options("rebalance", k.Addr()), a)
	first.AwaitReady(true)
	k.Produce(records("rebalance", numbers(n)[:n/2])...)
	start(t, options("rebalance", k.Addr()), b).AwaitReady(true) // while the first reads
	k.Produce(records("rebalance", numbers(n)[n/2:3*n/4])...)
	third := start(t, options("rebalance", k.Addr()), c)
	third.AwaitReady(true)
	k.Produce(records("rebalance", numbers(n)[3*n/4:])...)
	runtest.Eventually(t, "a record for the third", func() bool { return c.Distinct() > 0 })
	third.End()
	runtest.Eventually(t, "every record", func() bool { return runtest.Distinct(a.Data(), b.Data(), c.Data()) == n })
	if len(a.Data()) == 0 || len(b.Data()) == 0 {
		t.Errorf("the members took %d, %d and %d records: want some each", len(a.Data()), len(b.Data()), len(c.Data()))
	}
	t.Logf("the members took %d, %d and %d of %d records", len(a.Data()), len(b.Data()), len(c.Data()), n)
}

func brokerKilled(t *testing.T, k *servers.KafkaServer) {
	k.CreateTopic("killed", 3)
	s := &runtest.Sink{}
	r := start(t, options("killed", k.Addr()), s)
	r.AwaitReady(true)
	k.Produce(records("killed", numbers(500))...)
	runtest.Eventually(t, "some records", func() bool { return s.Distinct() > 0 })
	k.Kill()
	r.AwaitReady(false)
	k.Start()
	r.AwaitReady(true)
	k.Produce(servers.KafkaRecord("killed", "", "after"))
	s.Await(t, "after")
	runtest.Eventually(t, "every record", func() bool { return s.Distinct() == 501 })
}

func processKilled(t *testing.T, k *servers.KafkaServer) {
	k.CreateTopic("crash", 2)
	k.Produce(servers.KafkaRecord("crash", "", "before the group was"))
	taken := t.TempDir() + "/taken"

	startSource(t, k, "crash", taken).Kill() // without one event
	k.Produce(records("crash", numbers(1000))...)
	p := startSource(t, k, "crash", taken)
	runtest.Eventually(t, "some records", func() bool { return len(runtest.Lines(taken)) > 100 })
	p.Kill()
	before := runtest.Lines(taken)

	s := &runtest.Sink{}
	start(t, options("crash", k.Addr()), s)
	runtest.Eventually(t, "every record", func() bool { return runtest.Distinct(before, s.Data()) == 1000 })
	if s.Count("before the group was") != 0 {
		t.Error("read what was there before the group was")
	}
}

// leave has sources that end, one of them with its process. What it returns wants them to read all that was produced since, though the
// broker has forgotten what it was not asked to remember.
func leave(t *testing.T, k *servers.KafkaServer) func(*testing.T) {
	topics := []string{"ended", "cut-off"}
	for _, topic := range topics {
		k.CreateTopic(topic, 2)
	}
	taken := t.TempDir() + "/taken"
	p := startSource(t, k, "cut-off", taken)
	s := &runtest.Sink{}
	r := start(t, options("ended", k.Addr()), s)
	r.AwaitReady(true)
	k.Produce(records("cut-off", numbers(100))...)
	k.Produce(records("ended", numbers(100))...)
	runtest.Eventually(t, "every record", func() bool { return s.Distinct() == 100 })
	r.End()
	runtest.Eventually(t, "every record is committed", func() bool {
		offsets := k.Committed("group-cut-off", "cut-off")
		return offsets[0]+offsets[1] == 100
	})
	p.Kill()
	for _, topic := range topics {
		k.Produce(records(topic, numbers(200)[100:])...)
	}
	outlast := k.Absence("ended", "group-ended", "group-cut-off")
	return func(t *testing.T) {
		outlast()
		for _, topic := range topics {
			s := &runtest.Sink{}
			start(t, options(topic, k.Addr()), s)
			runtest.Eventually(t, "every record of "+topic+" since", func() bool { return s.Distinct() == 100 })
			s.Await(t, numbers(200)[100:]...)
		}
	}
}

// startSource runs a source in a process of its own, which appends what it takes to a file. It returns once the source is ready.
func startSource(t *testing.T, k *servers.KafkaServer, topic, file string) *servers.Process {
	t.Helper()
	cmd, ready := runtest.Process(t, options(topic, k.Addr()).Source, file)
	return servers.StartProcess(t, cmd, ready)
}

// TestSourceProcess is what startSource runs; by itself it does nothing.
func TestSourceProcess(t *testing.T) {
	runtest.SourceProcess(t, func(s plan.Source) source.Source { return New(Options{Instance: "test-0", Source: s}) })
}

func largeBinary(t *testing.T, k *servers.KafkaServer) {
	k.CreateTopic("large", 1)
	values := map[string][]byte{"900 KiB": make([]byte, 900<<10), "6 MiB": make([]byte, 6<<20)}
	got := make(chan *event.Event, 2)
	start(t, options("large", k.Addr()), event.HandlerFunc(func(_ context.Context, e *event.Event) error {
		got <- e
		return nil
	})).AwaitReady(true)
	random := rand.NewChaCha8([32]byte{})
	for name, v := range values {
		_, _ = random.Read(v)
		m := servers.KafkaRecord("large", name, "")
		m.Value = sarama.ByteEncoder(v)
		k.Produce(m)
	}
	for range values {
		e := <-got
		name := e.Extensions()["partitionkey"].(string)
		if !bytes.Equal(e.Data(), values[name]) {
			t.Errorf("%s: the data has changed", name)
		}
		if got, want := e.DataContentType(), "application/octet-stream"; got != want {
			t.Errorf("%s: content type %q, want %q", name, got, want)
		}
	}
}

func cloudEvents(t *testing.T, k *servers.KafkaServer) {
	k.CreateTopic("ce", 1)
	got := make(chan *event.Event, 2)
	start(t, options("ce", k.Addr()), event.HandlerFunc(func(_ context.Context, e *event.Event) error {
		got <- e
		return nil
	})).AwaitReady(true)
	k.Produce(
		servers.KafkaRecord("ce", "k", "hello", "ce_specversion", "1.0", "ce_id", "1", "ce_source", "/s", "ce_type", "t", "content-type", "text/plain"),
		servers.KafkaRecord("ce", "k", `{"specversion":"1.0","id":"2","source":"/s","type":"t","data":{"a": 1}}`, "content-type", "application/cloudevents+json"),
	)
	for _, want := range []string{"1 /s t text/plain hello", `2 /s t  {"a": 1}`} {
		e := <-got
		if got := fmt.Sprintln(e.ID(), e.Source(), e.Type(), e.DataContentType(), string(e.Data())); strings.TrimSpace(got) != want {
			t.Errorf("event %s, want %s", got, want)
		}
		if len(e.Extensions()) != 0 {
			t.Errorf("event %s has extensions %v, want none", e.ID(), e.Extensions())
		}
	}
}

func aborted(t *testing.T, k *servers.KafkaServer) {
	k.CreateTopic("transactions", 1)
	s := &runtest.Sink{}
	start(t, options("transactions", k.Addr()), s).AwaitReady(true)
	c := sarama.NewConfig()
	c.Producer.Idempotent, c.Producer.RequiredAcks, c.Producer.Return.Successes = true, sarama.WaitForAll, true
	c.Producer.Transaction.ID, c.Net.MaxOpenRequests = "tx", 1
	p, err := sarama.NewSyncProducer([]string{k.Addr()}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, value := range []string{"aborted", "committed"} {
		if err := p.BeginTxn(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.SendMessage(servers.KafkaRecord("transactions", "", value)); err != nil {
			t.Fatal(err)
		}
		end := p.CommitTxn
		if value == "aborted" {
			end = p.AbortTxn
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	s.Await(t, "committed")
	if s.Count("aborted") != 0 {
		t.Error("the aborted record became an event")
	}
}

func later(t *testing.T, k *servers.KafkaServer) {
	s := &runtest.Sink{}
	r := start(t, options("later", k.Addr()), s)
	r.AwaitReady(false)
	k.Produce(servers.KafkaRecord("later", "", "created with the topic"))
	s.Await(t, "created with the topic")
	r.AwaitReady(true)
	k.AddPartitions("later", 4)
	k.Produce(records("later", numbers(50))...)
	runtest.Eventually(t, "every record", func() bool { return s.Distinct() == 51 })
}

// remade wants a record to keep its id however often it is read, and one at the same place in a topic that was made again to have another.
func remade(t *testing.T, k *servers.KafkaServer) {
	k.CreateTopic("remade", 1)
	ids := func(group string) <-chan string {
		got := make(chan string, 10)
		o := options("remade", k.Addr())
		o.Source.Kafka.ConsumerGroup, o.Source.Kafka.FromOldest = group, true
		start(t, o, event.HandlerFunc(func(_ context.Context, e *event.Event) error {
			got <- e.ID()
			return nil
		})).AwaitReady(true)
		return got
	}
	next := func(ids <-chan string) string {
		t.Helper()
		select {
		case id := <-ids:
			return id
		case <-time.After(time.Minute):
			t.Fatal("no record within a minute")
			return ""
		}
	}
	running := ids("running")
	k.Produce(servers.KafkaRecord("remade", "", "hello"))
	first := next(running)
	if again := next(ids("another")); again != first {
		t.Errorf("the record has the id %q, and %q when it is read again", first, again)
	}
	k.DeleteTopic("remade")
	k.CreateTopic("remade", 1)
	k.Produce(servers.KafkaRecord("remade", "", "hello"))
	second := next(running)
	place := "remade/0/0/"
	if !strings.HasPrefix(first, place) || !strings.HasPrefix(second, place) || first == second {
		t.Errorf("ids %q and %q, want two at %s", first, second, place)
	}
	if again := next(ids("one more")); again != second {
		t.Errorf("the record has the id %q, and %q when it is read again", second, again)
	}
}
