package embedded

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/stan.go"
)

// nowhere is a dialer that reaches only what it is told to.
func nowhere(served ...string) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, _, address string) (net.Conn, error) {
		for _, s := range served {
			if s == address {
				client, server := net.Pipe()
				_ = server.Close()
				return client, nil
			}
		}
		return nil, errors.New("no such host")
	}
}

func add(t *testing.T, s *Servers, needs ...Need) []Server {
	t.Helper()
	started, err := s.Add(t.Context(), needs)
	if err != nil {
		t.Fatalf("Add(%v) = %v", needs, err)
	}
	return started
}

func closed(t *testing.T, s *Servers) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

func TestKafkaCarriesRecords(t *testing.T) {
	s := New(Options{Dial: nowhere()})
	defer closed(t, s)
	started := add(t, s, Need{Kind: Kafka, Addresses: []string{"kafka.kafka:9092"}, Topics: []string{"sample"}})
	config := sarama.NewConfig()
	config.Producer.Return.Successes = true
	client, err := sarama.NewClient([]string{started[0].Address}, config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	producer, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	// Four megabytes: more than Kafka's own default.
	want := strings.Repeat("x", 4<<20)
	config.Producer.MaxMessageBytes = 8 << 20
	for _, topic := range []string{"sample", "made-on-demand"} {
		if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(want)}); err != nil {
			t.Fatalf("send to %s: %v", topic, err)
		}
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	part, err := consumer.ConsumePartition("sample", 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	select {
	case m := <-part.Messages():
		if string(m.Value) != want {
			t.Errorf("record has %d bytes, want %d", len(m.Value), len(want))
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no record")
	}
}

func TestKafkaAsksForThePasswordOfThePlan(t *testing.T) {
	for _, mechanism := range []string{"", "SCRAM-SHA-256"} {
		s := New(Options{Dial: nowhere()})
		started := add(t, s, Need{Kind: Kafka, Addresses: []string{"k:9092"}, Mechanism: mechanism, Username: "u", Password: "p"})
		if len(started) != 1 {
			t.Errorf("mechanism %q: %d servers, want 1", mechanism, len(started))
		}
		closed(t, s)
	}
	s := New(Options{Dial: nowhere()})
	defer closed(t, s)
	started := add(t, s, Need{Kind: Kafka, Addresses: []string{"k:9092"}, Username: "u", Password: "p"})
	for password, works := range map[string]bool{"p": true, "wrong": false} {
		config := sarama.NewConfig()
		config.Net.SASL.Enable, config.Net.SASL.User, config.Net.SASL.Password = true, "u", password
		config.Metadata.Retry.Max = 0
		client, err := sarama.NewClient([]string{started[0].Address}, config)
		if got := err == nil; got != works {
			t.Errorf("client with password %q: %v", password, err)
		}
		if err == nil {
			_ = client.Close()
		}
	}
}

func TestNATSStreamingKeepsEventsOnDisk(t *testing.T) {
	dir := t.TempDir()
	need := Need{Kind: NATSStreaming, Addresses: []string{"nats.default:4222"}, ClusterID: "stan"}
	for range 2 {
		s := New(Options{Dir: dir, Dial: nowhere()})
		started := add(t, s, need)
		conn, err := stan.Connect("stan", "client", stan.NatsURL("nats://"+started[0].Address))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Publish("topic", []byte("hello")); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		closed(t, s)
	}
	s := New(Options{Dir: dir, Dial: nowhere()})
	defer closed(t, s)
	started := add(t, s, need)
	conn, err := stan.Connect("stan", "client", stan.NatsURL("nats://"+started[0].Address))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	messages := make(chan *stan.Msg, 10)
	if _, err := conn.Subscribe("topic", func(m *stan.Msg) { messages <- m }, stan.DeliverAllAvailable()); err != nil {
		t.Fatal(err)
	}
	for want := uint64(1); want <= 2; want++ {
		select {
		case m := <-messages:
			if m.Sequence != want {
				t.Errorf("sequence %d, want %d", m.Sequence, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("message %d did not come", want)
		}
	}
}

func TestJetStreamIsTemporaryWithoutADirectory(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := New(Options{Dial: nowhere()})
	started := add(t, s, Need{Kind: JetStream, Addresses: []string{"nats.default:4222"}, Username: "u", Password: "p"})
	if conn, err := nats.Connect("nats://" + started[0].Address); err == nil {
		conn.Close()
		t.Error("a client without a password was let in")
	}
	conn, err := nats.Connect("nats://u:p@" + started[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "s", Subjects: []string{"a.>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "a.b", make([]byte, 4<<20)); err != nil {
		t.Errorf("publish 4 MiB: %v", err)
	}
	conn.Close()
	closed(t, s)
	left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAddStartsWhatIsMissingOnly(t *testing.T) {
	s := New(Options{Dial: nowhere("real:9092")})
	defer closed(t, s)
	started := add(t, s,
		Need{Kind: Kafka, Addresses: []string{"real:9092"}},
		Need{Kind: Kafka, Addresses: []string{"a:9092", "b:9092"}, Topics: []string{"one"}},
		Need{Kind: Kafka, Addresses: []string{"b:9092"}, Topics: []string{"two"}},
	)
	if len(started) != 1 {
		t.Fatalf("%d servers started, want 1: %v", len(started), started)
	}
	if got, want := started[0].String(), "embedded kafka stands for a:9092, b:9092 at "+started[0].Address; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	if _, ok := s.Address("real:9092"); ok {
		t.Error("a server stands for an address that answers")
	}
	for _, a := range []string{"a:9092", "B:9092"} {
		if got, ok := s.Address(a); !ok || got != started[0].Address {
			t.Errorf("Address(%s) = %s, %t, want %s", a, got, ok, started[0].Address)
		}
	}
	if again := add(t, s, Need{Kind: Kafka, Addresses: []string{"b:9092", "c:9092"}}); len(again) != 0 {
		t.Errorf("started again: %v", again)
	}
	if got, _ := s.Address("c:9092"); got != started[0].Address {
		t.Errorf("Address(c:9092) = %s, want %s", got, started[0].Address)
	}
}

func TestARealServerMayHaveTwoUsers(t *testing.T) {
	s := New(Options{Dial: nowhere("a:1")})
	defer closed(t, s)
	if started := add(t, s, Need{Kind: Kafka, Addresses: []string{"a:1"}, Username: "x"}, Need{Kind: Kafka, Addresses: []string{"a:1"}, Username: "y"}); len(started) != 0 {
		t.Errorf("started: %v", started)
	}
}

func TestAddRefusesContradictions(t *testing.T) {
	tests := []struct {
		name  string
		needs []Need
		want  string
	}{
		{"two kinds at one address", []Need{{Kind: Kafka, Owner: "A", Addresses: []string{"a:1"}}, {Kind: JetStream, Owner: "B", Addresses: []string{"a:1"}}},
			"address a:1: A and B want a kafka and a jetStream server there, and an embedded server has one: change one of them, or start a server there yourself"},
		{"two cluster ids at one address", []Need{
			{Kind: NATSStreaming, Owner: "A", Addresses: []string{"a:1"}, ClusterID: "x"}, {Kind: NATSStreaming, Owner: "B", Addresses: []string{"a:1"}, ClusterID: "y"},
		}, "address a:1: A and B want two cluster ids there, and an embedded server has one: change one of them, or start a server there yourself"},
		{"two users at one address", []Need{
			{Kind: Kafka, Owner: "A", Addresses: []string{"a:1"}, Username: "x"}, {Kind: Kafka, Owner: "B", Addresses: []string{"b:1", "a:1"}, Username: "x"},
			{Kind: Kafka, Owner: "C", Addresses: []string{"b:1"}, Username: "y"},
		}, "address b:1: A and C want two sets of credentials there, and an embedded server has one: change one of them, or start a server there yourself"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := New(Options{Dial: nowhere()})
			defer closed(t, s)
			if _, err := s.Add(t.Context(), tt.needs); err == nil || err.Error() != tt.want {
				t.Errorf("Add() = %v, want %s", err, tt.want)
			}
		})
	}
}
