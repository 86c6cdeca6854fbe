//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/openfunction/events/test/servers"
)

// TestE2EReloads changes the files 200 times, every tenth time for the worse, and looks at what the program holds afterwards.
func TestE2EReloads(t *testing.T) {
	t.Parallel() // the files are looked at twice a second
	st := servers.NATSStreaming(t)
	s := newSink(t)
	good := path(fmt.Sprintf("natsStreaming: {natsURL: %q, natsStreamingClusterID: stan}", st.URL()), "reload")
	file := write(t, "path.yaml", good)
	p := run(t, "-f", file, "--sink", "default/each="+s.URL)
	lines := func(what string) int {
		p.mu.Lock()
		defer p.mu.Unlock()
		n := 0
		for _, line := range p.stderr {
			if strings.HasPrefix(line, what) {
				n++
			}
		}
		return n
	}
	edit := func(i int) {
		t.Helper()
		text, said := strings.Replace(good, "condition: a\n", fmt.Sprintf("condition: %s\n", []string{"a", "a || b"}[i%2]), 1), "applied:"
		if i%10 == 9 {
			text, said = strings.Replace(good, "condition: a\n", "condition: a &&\n", 1), "not applied"
		}
		before := lines(said)
		if err := os.WriteFile(file, []byte(fmt.Sprintf("%s# edit %d\n", text, i)), 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, 60*time.Second, fmt.Sprintf("edit %d: %s", i, said), func() error {
			if lines(said) == before {
				return errors.New("not yet")
			}
			return nil
		})
	}
	passes := func(id string) {
		t.Helper()
		publish(t, func() string { return p.url + "/default/reload/a" }, id, []byte(`{}`))
		eventually(t, 60*time.Second, id+" arrives", func() error {
			if s.ids()[id] == 0 {
				return errors.New("not yet")
			}
			return nil
		})
	}
	for i := range 10 {
		edit(i)
	}
	passes("before")
	files, threads, rss := p.holds(t)
	for i := 10; i < 200; i++ {
		edit(i)
	}
	passes("after")
	eventually(t, 60*time.Second, "200 reloads leave nothing behind", func() error {
		filesNow, threadsNow, rssNow := p.holds(t)
		if filesNow > files+8 || threadsNow > threads+8 || rssNow > rss+32 {
			return fmt.Errorf("%d files, %d threads, %d MiB before; %d files, %d threads, %d MiB after", files, threads, rss, filesNow, threadsNow, rssNow)
		}
		return nil
	})
}

// holds returns how many files and threads the program has, and its resident memory in MiB.
func (p *process) holds(t *testing.T) (files, threads, rss int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", p.cmd.Process.Pid)
	entries, err := os.ReadDir(dir + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(status), "\n") {
		_, _ = fmt.Sscanf(line, "Threads: %d", &threads)
		_, _ = fmt.Sscanf(line, "VmRSS: %d", &rss)
	}
	return len(entries), threads, rss / 1024
}
