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

// diskful is a server of somebody else's whose disk is full.
type diskful struct {
	server interface {
		Kill()
		Start()
	}
	yaml   string
	gone   string // what a post is answered in the end
	logged string // what one line of the log says of it
	// half is where a server that goes on has half a channel, for event c, which somebody has to remove.
	half string
}

// TestE2EAFullDiskOfABroker fills the disk of real servers. They end by that, or lose their disk, and are started again when there is room. Until
// then events are refused with a reason, and a source keeps what it has.
func TestE2EAFullDiskOfABroker(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T, *servers.SmallDisk) diskful{
		"kafka": func(t *testing.T, d *servers.SmallDisk) diskful {
			s := servers.Kafka(t, "log.dirs="+d.Dir, "metadata.log.dir="+t.TempDir())
			return diskful{
				server: s, yaml: fmt.Sprintf("kafka: {brokers: %q}", s.Addr()),
				gone: "connection refused: start the brokers", logged: "the bus is away",
			}
		},
		"kafka with two disks": func(t *testing.T, d *servers.SmallDisk) diskful {
			other := t.TempDir()
			s := servers.Kafka(t, "log.dirs="+d.Dir+","+other, "metadata.log.dir="+other)
			for _, event := range []string{"a", "not-on-this-disk", "b"} {
				s.CreateTopic("openfunction.default.disk."+event, 1)
			}
			for _, event := range []string{"a", "b"} {
				if _, err := os.Stat(filepath.Join(d.Dir, "openfunction.default.disk."+event+"-0")); err != nil {
					t.Fatalf("the broker keeps event %s on the other disk: %v", event, err)
				}
			}
			return diskful{
				server: s, yaml: fmt.Sprintf("kafka: {brokers: %q}", s.Addr()),
				gone: "there is currently no leader for this partition", logged: "event is not taken, trying again\t{\"part\": \"EventSource",
			}
		},
		"nats streaming": func(t *testing.T, d *servers.SmallDisk) diskful {
			s := servers.NATSStreamingOn(t, d)
			return diskful{
				server: s, yaml: fmt.Sprintf("natsStreaming: {natsURL: %q, natsStreamingClusterID: stan}", s.URL()),
				gone: "connection refused", logged: "is lost: EOF", half: filepath.Join(d.Dir, "store", "openfunction.default.disk.c"),
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk, redis, s := servers.Disk(t, 64), servers.Redis(t), newSink(t)
			b := start(t, disk)
			hold, open := context.WithCancel(t.Context())
			t.Cleanup(open)
			s.set(func(http.ResponseWriter, *event.Event) bool { <-hold.Done(); return true })
			yaml := strings.NewReplacer(
				"http: {a: {}, b: {}}", fmt.Sprintf("http: {a: {}, c: {}}\n  redis: {b: {redisHost: %q, stream: s, consumerGroup: g}}", redis.Addr()),
				"condition: a\n", "condition: a || b\n",
			).Replace(path(b.yaml, "disk"))
			f := &filling{t: t, sink: s, why: b.gone, p: run(t, "-f", write(t, "path.yaml", yaml), "--sink", "default/each="+s.URL)}
			f.accepted(50)

			free := disk.Fill(0)
			if b.half != "" {
				new := f.p.url + "/default/disk/c"
				code, body := post(new, "new", "text/plain", nil)
				if want := "no space left on device: make room or raise its limit"; code != http.StatusInsufficientStorage || !strings.Contains(body, want) {
					t.Errorf("status %d %q, want 507 with %q", code, body, want)
				}
				free()
				if err := os.RemoveAll(b.half); err != nil {
					t.Fatal(err)
				}
				publish(t, func() string { return new }, "new", nil)
				free = disk.Fill(0)
			}
			f.refused()
			entry := redis.Do("XADD", "s", "*", "data", "x").(string)
			eventually(t, time.Minute, "the log says it", func() error {
				for _, says := range []string{b.logged, "EventSource default/disk redis event b"} {
					if lines := f.p.logged(says); len(lines) != 1 {
						return fmt.Errorf("%d lines say %q", len(lines), says)
					}
				}
				return nil
			})
			waiting := func() int64 { return redis.Do("XPENDING", "s", "g").([]any)[0].(int64) }
			if n := waiting(); n != 1 {
				t.Errorf("the source has acknowledged what it cannot publish: %d entries wait, want 1", n)
			}

			free()
			b.server.Kill()
			b.server.Start()
			f.accepted(100)
			open()
			f.taken = append(f.taken, "s/"+entry)
			f.delivered()
			eventually(t, time.Minute, "the entry is acknowledged", func() error {
				if n := waiting(); n != 0 {
					return fmt.Errorf("%d entries wait", n)
				}
				return nil
			})
			if lines := f.p.logged(""); len(lines) > 20 {
				t.Errorf("the log has %d lines, which is a flood", len(lines))
			}
		})
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
