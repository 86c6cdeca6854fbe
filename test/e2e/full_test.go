//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/test/servers"
)

// fullPath is path with an event c that nobody listens to, and room for large bodies.
func fullPath(bus, name string) string {
	return strings.Replace(path(bus, name), "http: {a: {}, b: {}}", "http: {a: {maxBodyBytes: 16777216}, b: {}, c: {}}", 1)
}

// TestE2EAFullBusRefuses fills buses that keep events until they are delivered, while the sink takes none. What was answered 202 arrives, and
// what was not, its producer knows of.
func TestE2EAFullBusRefuses(t *testing.T) {
	js := servers.JetStream(t)
	for name, bus := range map[string]string{
		"embedded":  "embedded: {maxBytes: 262144}",
		"jetStream": fmt.Sprintf("jetStream: {url: %q, maxBytes: 262144}", js.URL()),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSink(t)
			open := make(chan struct{})
			s.set(func(http.ResponseWriter, *event.Event) bool { <-open; return true })
			p := run(t, "-f", write(t, "path.yaml", fullPath(bus, "full")), "--sink", "default/each="+s.URL)
			url := p.url + "/default/full/a"
			data := []byte(strings.Repeat("x", 10<<10))
			publish(t, func() string { return url }, "e0", data)
			if name == "jetStream" {
				notNew(t, js.URL())
			}
			taken := []string{"e0"}
			code, body := http.StatusAccepted, ""
			for i := 1; code == http.StatusAccepted && i < 100; i++ {
				id := fmt.Sprintf("e%d", i)
				if code, body = post(url, id, "text/plain", data); code == http.StatusAccepted {
					taken = append(taken, id)
				}
			}
			if want := "maximum bytes exceeded: make room or raise its limit"; code != http.StatusInsufficientStorage || !strings.Contains(body, want) {
				t.Errorf("after %d events: %d %q, want 507 with %q", len(taken), code, body, want)
			}
			close(open)
			eventually(t, 60*time.Second, "everything that was taken", func() error {
				ids := s.ids()
				for _, id := range taken {
					if ids[id] == 0 {
						return fmt.Errorf("%s is missing", id)
					}
				}
				return nil
			})
			publish(t, func() string { return url }, "there is room again", data)
		})
	}
}

// notNew ends the time in which a new stream of events keeps everything, half a minute, at once.
func notNew(t *testing.T, url string) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteConsumer(t.Context(), "openfunction-events", "openfunction~latecomers"); err != nil {
		t.Fatal(err)
	}
}

// TestE2EOneChannelTooMany is all that a NATS Streaming server ever refuses for want of room: a full channel drops its oldest messages.
func TestE2EOneChannelTooMany(t *testing.T) {
	st := servers.NATSStreaming(t, "store_limits { max_channels: 2 }")
	bus := fmt.Sprintf("natsStreaming: {natsURL: %q, natsStreamingClusterID: stan}", st.URL())
	p := run(t, "-f", write(t, "path.yaml", fullPath(bus, "full")), "--sink", "default/each="+newSink(t).URL)
	publish(t, func() string { return p.url + "/default/full/a" }, "e1", []byte("x"))
	code, body := post(p.url+"/default/full/c", "e2", "text/plain", []byte("x"))
	if want := "too many channels: make room or raise its limit"; code != http.StatusInsufficientStorage || !strings.Contains(body, want) {
		t.Errorf("status %d %q, want 507 with %q", code, body, want)
	}
	if code, body := post(p.url+"/default/full/a", "e3", "text/plain", []byte("x")); code != http.StatusAccepted {
		t.Errorf("on a channel that is there: status %d %q, want 202", code, body)
	}
}

// TestE2ETooLargeForTheBus wants one sentence that names the limit, from every kind of bus.
func TestE2ETooLargeForTheBus(t *testing.T) {
	js, st, kafka := servers.JetStream(t), servers.NATSStreaming(t), servers.Kafka(t)
	for name, tt := range map[string]struct{ bus, want string }{
		"embedded":       {"embedded: {}", "more than the 8388608 (8 MiB) that an embedded bus takes: send less"},
		"jetStream":      {fmt.Sprintf("jetStream: {url: %q}", js.URL()), "the server's max_payload of 1048576"},
		"nats streaming": {fmt.Sprintf("natsStreaming: {natsURL: %q, natsStreamingClusterID: stan}", st.URL()), "the server's max_payload of 8388608"},
		"kafka":          {fmt.Sprintf("kafka: {brokers: %q}", kafka.Addr()), "the topic's max.message.bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			p := run(t, "-f", write(t, "path.yaml", fullPath(tt.bus, "large")), "--sink", "default/each="+newSink(t).URL)
			url := p.url + "/default/large/a"
			publish(t, func() string { return url }, "before", []byte("x"))
			code, body := post(url, "large", "text/plain", make([]byte, 9<<20))
			for _, want := range []string{"event is too large", tt.want, "send less at once"} {
				if code != http.StatusRequestEntityTooLarge || !strings.Contains(body, want) {
					t.Errorf("status %d %q, want 413 with %q", code, body, want)
				}
			}
			publish(t, func() string { return url }, "after", []byte("x"))
		})
	}
}
