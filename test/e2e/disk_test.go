//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/test/servers"
)

// filling posts events to a program whose disk is full now and then.
type filling struct {
	t     *testing.T
	p     *process
	sink  *sink
	sent  int
	taken []string
}

// post posts one event of 64 KiB once.
func (f *filling) post() (code int, body string) {
	id := fmt.Sprintf("e%d", f.sent)
	f.sent++
	if code, body = post(f.p.url+"/default/disk/a", id, "text/plain", make([]byte, 64<<10)); code == http.StatusAccepted {
		f.taken = append(f.taken, id)
	}
	return code, body
}

// refused posts until an event is refused for want of room on the disk of dir.
func (f *filling) refused(dir string) {
	f.t.Helper()
	eventually(f.t, time.Minute, "an event is refused", func() error {
		for {
			switch code, body := f.post(); {
			case code == http.StatusAccepted:
				continue
			case code == http.StatusInsufficientStorage && strings.Contains(body, dir) && strings.Contains(body, "no space left on device: make room"):
				return nil
			case code != http.StatusInsufficientStorage && code != http.StatusServiceUnavailable || body == "":
				f.t.Fatalf("status %d %q, want 507, or 503 for a moment, with a reason", code, body)
			default:
				return fmt.Errorf("status %d %q", code, body)
			}
		}
	})
}

// accepted posts until so many events more were accepted.
func (f *filling) accepted(n int) {
	f.t.Helper()
	for want := len(f.taken) + n; len(f.taken) < want; {
		eventually(f.t, time.Minute, "an event is accepted", func() error {
			if code, body := f.post(); code != http.StatusAccepted {
				return fmt.Errorf("status %d %q", code, body)
			}
			return nil
		})
	}
}

// delivered wants everything that was accepted at the sink.
func (f *filling) delivered() {
	f.t.Helper()
	eventually(f.t, time.Minute, "everything that was accepted", func() error {
		ids, missing := f.sink.ids(), 0
		for _, id := range f.taken {
			if ids[id] == 0 {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d events are missing", missing, len(f.taken))
		}
		return nil
	})
}

// says wants the program to have said so often on one line what is the matter, where, and what to do, and so often that it is over.
func (f *filling) says(dir string, trouble, over int) {
	f.t.Helper()
	eventually(f.t, time.Minute, "the log", func() error {
		lines, again := f.p.logged("the bus takes no events: make room on its disk"), f.p.logged("the bus takes events again")
		if len(lines) != trouble || len(again) != over {
			return fmt.Errorf("%d times trouble and %d times the end of it, want %d and %d:\n%s", len(lines), len(again), trouble, over, f.p.log())
		}
		for _, line := range lines {
			for _, want := range []string{"ERROR", "EventBus default/default", dir, "no space left on device", "nothing that it has is lost"} {
				if !strings.Contains(line, want) {
					f.t.Errorf("the log says %q, want %q in it", line, want)
				}
			}
		}
		return nil
	})
}

// TestE2EAFullDisk fills the disk of `events run --data`, with events and with what is somebody else's. Whoever runs it reads once what to do, and
// need not start it again; what was accepted arrives, also when the program is killed and finds no room at all when it comes back.
func TestE2EAFullDisk(t *testing.T) {
	t.Parallel()
	disk := servers.Disk(t, 48)
	s := newSink(t)
	hold, open := context.WithCancel(t.Context())
	t.Cleanup(open)
	s.set(func(http.ResponseWriter, *event.Event) bool { <-hold.Done(); return true })
	args := []string{"-f", write(t, "path.yaml", path("embedded: {}", "disk")), "--sink", "default/each=" + s.URL, "--data", disk.Dir}
	f := &filling{t: t, p: run(t, args...), sink: s}
	f.accepted(1)
	f.refused(disk.Dir)
	f.says(disk.Dir, 1, 0)

	f.p.kill()
	free := disk.Fill()
	f.p = run(t, args...)
	f.says(disk.Dir, 1, 0)
	f.refused(disk.Dir)
	open()
	f.delivered()
	free()
	f.accepted(100)
	f.says(disk.Dir, 1, 1)

	// What cannot be written although there is room: the server starts again, in the program.
	disk.LimitFiles(2)
	f.refused(disk.Dir)
	f.says(disk.Dir, 2, 1)
	disk.LimitFiles(0)
	f.accepted(100)
	f.delivered()
	f.says(disk.Dir, 2, 2)
	if code := f.p.terminate(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}
