//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/openfunction/events/test/servers"
)

// TestE2EKillWithKafka kills the program twice while 5,000 records pass from Kafka over a bus to a sink, and counts.
func TestE2EKillWithKafka(t *testing.T) {
	const records = 5000
	kafka := servers.Kafka(t)
	for name, b := range brokers(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // a member that was killed is missed for ten seconds
			topic := "kill-" + strings.ToLower(strings.ReplaceAll(name, " ", "-"))
			kafka.CreateTopic(topic, 4)
			s := newSink(t)
			yaml := strings.Replace(path(b.yaml, topic), "http: {a: {}, b: {}}", fmt.Sprintf("http: {b: {}}\n  kafka: {a: {brokers: %q, topic: %q}}", kafka.Addr(), topic), 1)
			args := append([]string{"-f", write(t, "path.yaml", yaml), "--sink", "default/each=" + s.URL}, b.args...)
			p := run(t, args...)
			produced := make(chan struct{})
			go func() {
				defer close(produced)
				for i := 0; i < records; i += 500 {
					var batch []*sarama.ProducerMessage
					for k := range 500 {
						batch = append(batch, servers.KafkaRecord(topic, fmt.Sprintf("key-%d", k%50), fmt.Sprintf("r%05d", i+k)))
					}
					kafka.Produce(batch...)
					time.Sleep(200 * time.Millisecond)
				}
			}()
			values := func() map[string]int {
				out := map[string]int{}
				for _, e := range s.received() {
					out[string(e.Data())]++
				}
				return out
			}
			for kill := 1; kill <= 2; kill++ {
				eventually(t, 120*time.Second, "progress", func() error {
					if got := len(values()); got < kill*records/4 {
						return fmt.Errorf("%d records", got)
					}
					return nil
				})
				p.kill()
				p = run(t, args...)
			}
			<-produced
			eventually(t, 120*time.Second, "every record has arrived", func() error {
				if got := len(values()); got < records {
					return fmt.Errorf("%d of %d", got, records)
				}
				return nil
			})
			t.Logf("%s, program killed twice: %d records, lost 0, duplicates %d", name, records, len(s.received())-records)
		})
	}
}

// TestE2ERecordTooLargeForTheBus wants a record that the bus will never take dead-lettered, and those behind it delivered.
func TestE2ERecordTooLargeForTheBus(t *testing.T) {
	kafka, nats := servers.Kafka(t), servers.NATSStreaming(t)
	kafka.CreateTopic("large", 1)
	s := newSink(t)
	bus := fmt.Sprintf("natsStreaming: {natsURL: %q, natsStreamingClusterID: stan}", nats.URL())
	yaml := strings.Replace(path(bus, "large"), "http: {a: {}, b: {}}", fmt.Sprintf("http: {b: {}}\n  kafka: {a: {brokers: %q, topic: large}}", kafka.Addr()), 1)
	p := run(t, "-f", write(t, "path.yaml", yaml), "--sink", "default/each="+s.URL)
	// Seven MiB of bytes are more than nine as the base64 of a structured event, and the server takes eight.
	kafka.Produce(servers.KafkaRecord("large", "k", strings.Repeat("\xff", 7<<20)), servers.KafkaRecord("large", "k", "behind"))
	eventually(t, 60*time.Second, "the record behind", func() error {
		if got := len(s.received()); got != 1 || string(s.received()[0].Data()) != "behind" {
			return fmt.Errorf("%d events", got)
		}
		return nil
	})
	letters := p.deliveries("deadletter topic openfunction.default.eventsource.large.deadletter")
	if len(letters) != 1 || letters[0].EventSource != "default/large" || !strings.Contains(string(letters[0].Event), `"openfunctiondataomitted":"7340032"`) {
		t.Errorf("dead letters: %.500s", letters)
	}
}
