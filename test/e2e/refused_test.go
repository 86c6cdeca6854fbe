//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/test/servers"
)

// TestE2ERefusedTopic has a server that is there, and takes no dead letters. The program says what is wrong, once, and the event is not lost.
func TestE2ERefusedTopic(t *testing.T) {
	st := servers.NATSStreaming(t, "store_limits { max_channels: 2 }")
	s := newSink(t)
	s.set(func(w http.ResponseWriter, _ *event.Event) bool { w.WriteHeader(http.StatusBadRequest); return false })
	bus := fmt.Sprintf("natsStreaming: {natsURL: %q, natsStreamingClusterID: stan, ackWaitTime: 2s}", st.URL())
	args := []string{"-f", write(t, "path.yaml", path(bus, "refused")), "--sink", "default/each=" + s.URL}
	p := run(t, args...)
	const want = "too many channels"
	for i := range 20 {
		publish(t, func() string { return p.url + "/default/refused/a" }, fmt.Sprint(i), []byte(`{}`))
	}
	eventually(t, 60*time.Second, "the log says why", func() error {
		if !strings.Contains(p.log(), want) {
			return errors.New("not yet")
		}
		return nil
	})
	time.Sleep(3 * time.Second) // for what would flood
	if lines := p.logged(want); len(lines) > 3 {
		t.Errorf("%d lines say it, want a few:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	s.set(nil)
	p.kill()
	run(t, args...)
	eventually(t, 60*time.Second, "the events, by a program that is started again", func() error {
		if got := len(s.ids()); got < 20 {
			return fmt.Errorf("%d of 20", got)
		}
		return nil
	})
}
