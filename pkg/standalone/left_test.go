package standalone

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// readBy is an EventSource whose events are read by these consumer groups; an event without one is left out. No embedded server stands for
// its Kafka.
func readBy(redisGroup, kafkaGroup string) string {
	text := `
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: s}
spec:
  sink: {uri: "SINK"}
  cron: {yearly: {schedule: "@yearly"}}
`
	if redisGroup != "" {
		text += "  redis:\n    job:\n      redisHost: redis.redis:6379\n      consumerGroup: " + redisGroup + "\n"
	}
	if kafkaGroup != "" {
		text += "  kafka:\n    order:\n      brokers: 127.0.0.1:1\n      tls: {}\n      consumerGroup: " + kafkaGroup + "\n"
	}
	return text
}

const cure = "; add another event with the new value, and remove this one once it has caught up, or first if what waits may be lost"

// What waits under one name would never be read under another.
func TestReloadLeavesNothingThatWaits(t *testing.T) {
	file, sink := filepath.Join(t.TempDir(), "f.yaml"), newCollector(t, true)
	declare := func(text string) { write(t, file, strings.Replace(text, "SINK", sink.URL, 1)) }
	declare(readBy("one", ""))
	p := start(t, Options{Paths: []string{file}, Embedded: true})
	address := p.stderr.wait(t, `^embedded redis stands for redis\.redis:6379 at (127\.0\.0\.1:\d+)$`)[1]
	p.stderr.wait(t, `^listening on `)
	client := redis.NewClient(&redis.Options{Addr: address})
	defer client.Close()
	add := func(body string) {
		t.Helper()
		if err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: "job", Values: []string{"data", body}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	add("before")
	sink.wants(t, []string{"before"})

	declare(readBy("two", ""))
	p.stderr.wait(t, `f\.yaml:11: EventSource default/s: spec\.redis\[job\]\.consumerGroup: cannot be changed from "one": what waits under that consumer group would not be read`+cure+`\nnot applied, the state before goes on; mistakes: 1$`)
	add("goes on")
	sink.wants(t, []string{"goes on"})

	declare(readBy("", ""))
	p.stderr.wait(t, `f\.yaml:5: warning: EventSource default/s: spec\.redis\[job\]: is removed, and what still waits for the consumer group "one" in stream job at redis\.redis:6379 stays there unread, unless another event reads it under that name\napplied: 1 source, 0 subscribers$`)
	declare(readBy("two", ""))
	p.stderr.wait(t, `^applied: 2 sources, 0 subscribers$`)
}

// A process that has a data directory knows who read before it. What is in memory does not wait.
func TestARestartLeavesNothingThatWaits(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	file := filepath.Join(dir, "f.yaml")
	declare := func(text string) { write(t, file, strings.Replace(text, "SINK", "http://127.0.0.1:9/x", 1)) }
	saved := filepath.Join(data, subscriptionsName)
	runs := func(name, saves string, want ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			p := start(t, Options{Paths: []string{file}, DataDir: data, Embedded: true})
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
				text, _ := os.ReadFile(saved)
				if names := strings.Join(regexp.MustCompile(`"name": "\w+"`).FindAllString(string(text), -1), ", "); names == saves && len(text) > 0 {
					break
				} else if time.Now().After(deadline) {
					t.Fatalf("%s has %s, want %s\n%s", saved, names, saves, &p.stderr)
				}
			}
			for _, w := range want {
				p.stderr.wait(t, w)
			}
		})
	}
	declare(readBy("one", "one"))
	const stood = `^embedded redis stands for redis\.redis:6379 at `
	runs("at first", `"name": "one"`, stood)
	declare(readBy("two", "one"))
	runs("another group of a server that was in memory", `"name": "one"`, stood)
	declare(readBy("two", "two"))
	err := Run(t.Context(), Options{
		Paths: []string{file}, DataDir: data, Embedded: true, Listen: "127.0.0.1:0", Sinks: &Sinks{}, Addresses: &Addresses{}, Stdout: io.Discard, Stderr: io.Discard,
	})
	want := fmt.Sprintf("%s:16: EventSource default/s: spec.kafka[order].consumerGroup: cannot be changed from \"one\": what waits under that consumer group would not be read%s\nhint: %s has who read the events until now",
		file, cure, saved)
	if invalid, ok := errors.AsType[*InvalidError](err); !ok || invalid.Error() != want {
		t.Errorf("Run() = %v\nwant %s", err, want)
	}
	declare(strings.Replace(readBy("", ""), "name: s", "name: other", 1))
	runs("the EventSource is gone", "", `^warning: EventSource default/s: spec\.kafka\[order\]: is removed, and what still waits for the consumer group "one" in topic order at 127\.0\.0\.1:1 stays there unread`)
	declare(readBy("", "two"))
	runs("it is declared anew", `"name": "two"`)
}
