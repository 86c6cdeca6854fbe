//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/test/servers"
)

// TestE2EMemory has a sink that takes nothing while large events come, more than the memory that a pod has. What does not fit waits on the bus or
// at its producer, and everything arrives.
func TestE2EMemory(t *testing.T) {
	const events, size, limit = 400, 1 << 20, 256 << 20
	t.Setenv("GOMEMLIMIT", "220MiB") // that of our pods, whose limit is 256 MiB
	js, kafka := servers.JetStream(t), servers.Kafka(t)
	for name, bus := range map[string]string{
		"jetStream": fmt.Sprintf("jetStream: {url: %q}", js.URL()),
		"kafka":     fmt.Sprintf("kafka: {brokers: %q}", kafka.Addr()),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSink(t)
			open := make(chan struct{})
			s.set(func(http.ResponseWriter, *event.Event) bool { <-open; return true })
			p := run(t, "-f", write(t, "path.yaml", fullPath(bus, "memory")), "--sink", "default/each="+s.URL)
			data := make([]byte, size-1<<10) // with its envelope it fits into what brokers take
			random := rand.NewChaCha8([32]byte{1})
			_, _ = random.Read(data)
			var producers sync.WaitGroup
			for w := range 32 {
				producers.Go(func() {
					for i := w; i < events; i += 32 {
						publish(t, func() string { return p.url + "/default/memory/a" }, fmt.Sprintf("e%03d", i), data)
					}
				})
			}
			producers.Wait()
			time.Sleep(3 * time.Second) // for what would come if there were no bound
			if peak := p.peak(); peak > limit {
				t.Errorf("the program had %d MiB, want no more than %d", peak>>20, limit>>20)
			} else {
				t.Logf("the program had %d MiB while %d MiB waited", peak>>20, events*size>>20)
			}
			close(open)
			eventually(t, 120*time.Second, "every event has arrived", func() error {
				if got := len(s.ids()); got < events {
					return fmt.Errorf("%d of %d", got, events)
				}
				return nil
			})
			if peak := p.peak(); peak > limit {
				t.Errorf("while they arrived the program had %d MiB, want no more than %d", peak>>20, limit>>20)
			}
		})
	}
}

// peak is how many bytes of memory the program has had at most.
func (p *process) peak() int64 {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		p.t.Fatalf("no VmHWM in %s", status)
	}
	kB, _ := strconv.ParseInt(string(m[1]), 10, 64)
	return kB << 10
}
