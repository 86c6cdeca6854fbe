//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/test/servers"
)

// filling posts events to a program whose disk is full now and then.
type filling struct {
	t     *testing.T
	why   string // is in a refusal
	bus   string // the log's name of it
	dir   string // where it keeps its events, or above
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

// refused posts until an event is refused for want of room.
func (f *filling) refused() {
	f.t.Helper()
	eventually(f.t, time.Minute, "an event is refused", func() error {
		for {
			switch code, body := f.post(); {
			case code == http.StatusAccepted:
				continue
			case code != http.StatusInsufficientStorage && code != http.StatusServiceUnavailable || body == "":
				f.t.Fatalf("status %d %q, want 507 or 503 with a reason", code, body)
			case strings.Contains(body, f.why):
				return nil
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

// says wants the last thing that the program said of it to be that the bus takes no events, or else that it does again. Neither may come twice in
// a row, and the first is one line that says what is the matter, where, and what to do.
func (f *filling) says(trouble bool) {
	f.t.Helper()
	eventually(f.t, time.Minute, fmt.Sprintf("the log says trouble = %t", trouble), func() error {
		last := false
		for _, line := range f.p.logged("the bus takes") {
			if again := strings.Contains(line, "the bus takes events again"); again != last {
				f.t.Fatalf("said twice in a row: %s", line)
			} else if last = !again; again {
				continue
			}
			for _, want := range []string{"ERROR", "takes no events: make room on its disk", f.bus, f.dir, "no space left on device", "nothing that it has is lost"} {
				if !strings.Contains(line, want) {
					f.t.Errorf("the log says %q, want %q in it", line, want)
				}
			}
		}
		if last != trouble {
			return fmt.Errorf("it does not:\n%s", f.p.log())
		}
		return nil
	})
}

// TestE2EAFullDisk fills the disk of `events run --data`, with events and with what is somebody else's. Whoever runs it reads once what to do, and
// need not start it again; what was accepted arrives, also when the program is killed and finds no room at all when it comes back.
func TestE2EAFullDisk(t *testing.T) {
	t.Parallel()
	disk := servers.Disk(t, 96)
	s := newSink(t)
	hold, open := context.WithCancel(t.Context())
	t.Cleanup(open)
	s.set(func(http.ResponseWriter, *event.Event) bool { <-hold.Done(); return true })
	args := []string{"-f", write(t, "path.yaml", path("embedded: {}", "disk")), "--sink", "default/each=" + s.URL, "--data", disk.Dir}
	f := &filling{
		t: t, p: run(t, args...), sink: s, why: "its disk is full: make room", bus: "EventBus default/default", dir: disk.Dir,
	}
	f.accepted(50)
	kept := filepath.Join(disk.Dir, "bus", "EventBus_default_default", "reserve")
	eventually(t, time.Minute, "room is kept for a start", func() error {
		if info, err := os.Stat(kept); err != nil || info.Size() == 0 {
			return fmt.Errorf("%s: %v", kept, err)
		}
		return nil
	})
	free := disk.Fill(0)
	f.says(true)
	f.refused()

	f.p.kill()
	f.p = run(t, args...)
	f.says(true)
	f.refused()
	open()
	f.delivered()
	free()
	f.accepted(100)
	f.says(false)

	// What cannot be written although there is room: the server starts again, in the program.
	disk.LimitFiles(2)
	f.refused()
	f.says(true)
	disk.LimitFiles(0)
	f.accepted(100)
	f.delivered()
	f.says(false)
	if code := f.p.terminate(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// TestE2EADiskOfAStandInThatFails wants the JetStream server of `events run --embedded` to be of use again when its disk can be written, too.
func TestE2EADiskOfAStandInThatFails(t *testing.T) {
	t.Parallel()
	disk := servers.Disk(t, 96)
	s := newSink(t)
	hold, open := context.WithCancel(t.Context())
	t.Cleanup(open)
	s.set(func(http.ResponseWriter, *event.Event) bool { <-hold.Done(); return true })
	yaml := write(t, "path.yaml", path(`jetStream: {url: "nats://nats.invalid:4222"}`, "disk"))
	f := &filling{
		t: t, sink: s, why: "EventBus default/default is unavailable", bus: "jetStream at nats.invalid:4222", dir: disk.Dir,
		p: run(t, "-f", yaml, "--sink", "default/each="+s.URL, "--embedded", "--data", disk.Dir),
	}
	f.accepted(1)
	disk.LimitFiles(2)
	f.refused()
	f.says(true)
	disk.LimitFiles(0)
	f.accepted(100)
	f.says(false)
	open()
	f.delivered()
}
