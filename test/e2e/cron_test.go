//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/test/servers"
)

const clock = `
apiVersion: events.openfunction.io/v1alpha1
kind: EventBus
metadata: {name: default}
spec: {jetStream: {url: %q}}
---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: clock}
spec:
  eventBus: default
  cron: {tick: {schedule: "@every %s"}}
  sink: {ref: {apiVersion: v1, kind: Service, name: each}}
`

// TestE2ECronBusAway wants every tick of the time that the bus is away.
func TestE2ECronBusAway(t *testing.T) {
	const every, outage = 2 * time.Second, 20 * time.Second
	t.Setenv("TZ", "UTC") // that of the times in the log
	js, s := servers.JetStream(t), newSink(t)
	p := run(t, "-f", write(t, "clock.yaml", fmt.Sprintf(clock, js.URL(), every)), "--sink", "default/each="+s.URL)
	arrived := func(after time.Time) {
		t.Helper()
		eventually(t, time.Minute, "a tick after "+after.String(), func() error {
			for id := range s.ids() {
				if tick(t, id).After(after) {
					return nil
				}
			}
			return errors.New("none has arrived")
		})
	}
	arrived(time.Time{})
	begin := time.Now()
	js.Kill()
	time.Sleep(outage)
	end := time.Now()
	js.Start()
	arrived(end) // The ticks of the outage are tried again every five seconds.
	ticks, lost := 0, 0
	eventually(t, time.Minute, "every tick of the outage", func() error {
		ids := s.ids()
		ticks, lost = 0, 0
		for at := begin.UTC().Truncate(every).Add(every); at.Before(end); at = at.Add(every) {
			ticks++
			switch id := at.Format(time.RFC3339); {
			case ids[id] > 0:
			case stalled(t, p, at):
				lost++
			default:
				return fmt.Errorf("%s is missing", id)
			}
		}
		return nil
	})
	if lines := p.logged("too many ticks"); len(lines) > 0 {
		t.Errorf("ticks had to wait:\n%s", strings.Join(lines, "\n"))
	}
	t.Logf("%d ticks while the bus was away, %d lost while the machine had stopped the program", ticks, lost)
}

func tick(t *testing.T, id string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, id)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// stalled tells whether the program says that it did not run at that time: a busy machine may have stopped it for seconds.
func stalled(t *testing.T, p *process, at time.Time) bool {
	t.Helper()
	const layout = "15:04:05.000"
	for _, line := range p.logged("ticks were missed") {
		var said struct{ From, To string }
		if err := json.Unmarshal([]byte(line[strings.Index(line, "{"):]), &said); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if text := at.UTC().Format(layout); said.From <= text && text <= said.To {
			return true
		}
	}
	return false
}
