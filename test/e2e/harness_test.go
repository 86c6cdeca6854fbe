//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/test/servers"
)

// binary builds the program once for the whole test binary.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "events-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "events")
	out, err := exec.Command("go", "build", "-o", path, "github.com/openfunction/events/cmd/events").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build events: %w\n%s", err, out)
	}
	return path, nil
})

// process is one run of the program.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	url  string
	done chan struct{}

	mu     sync.Mutex
	stderr []string
	lines  []delivery
}

// delivery is a line of `events run --output json`.
type delivery struct {
	Trigger     string          `json:"trigger"`
	EventSource string          `json:"eventSource"`
	To          string          `json:"to"`
	Event       json.RawMessage `json:"event"`
}

// run starts `events run` with args and returns once it listens.
func run(t testing.TB, args ...string) *process {
	t.Helper()
	p := start(t, args...)
	eventually(t, 60*time.Second, "the program listens", func() error {
		if p.url == "" {
			select {
			case <-p.done:
				t.Fatalf("the program ended:\n%s", p.log())
			default:
			}
			if p.url = p.find(`listening on (http://\S+)`); p.url == "" {
				return fmt.Errorf("not yet:\n%s", p.log())
			}
		}
		return nil
	})
	return p
}

// start starts `events run` with args and does not wait.
func start(t testing.TB, args ...string) *process {
	t.Helper()
	servers.Beside(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, done: make(chan struct{})}
	p.cmd = exec.Command(path, append([]string{"run", "--listen", "127.0.0.1:0", "--output", "json"}, args...)...)
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(func() { p.readStdout(stdout) })
	readers.Go(func() { p.readStderr(stderr) })
	go func() {
		readers.Wait()
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the program's log:\n%s", p.log())
		}
	})
	return p
}

func (p *process) readStdout(r io.Reader) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		var d delivery
		if err := json.Unmarshal(scanner.Bytes(), &d); err != nil {
			p.t.Errorf("stdout line %.200q: %v", scanner.Text(), err)
			continue
		}
		p.mu.Lock()
		p.lines = append(p.lines, d)
		p.mu.Unlock()
	}
}

func (p *process) readStderr(r io.Reader) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		p.mu.Lock()
		p.stderr = append(p.stderr, scanner.Text())
		p.mu.Unlock()
	}
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := p.stderr
	if len(lines) > 80 {
		lines = lines[len(lines)-80:]
	}
	return strings.Join(lines, "\n")
}

// logged returns the lines of stderr that contain text.
func (p *process) logged(text string) (lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.stderr {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}

// find returns the first group of the first line of stderr that matches.
func (p *process) find(pattern string) string {
	re := regexp.MustCompile(pattern)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.stderr {
		if m := re.FindStringSubmatch(line); m != nil {
			return m[1]
		}
	}
	return ""
}

func (p *process) deliveries(to string) []delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []delivery
	for _, d := range p.lines {
		if d.To == to {
			out = append(out, d)
		}
	}
	return out
}

// kill ends the process at once, as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// terminate asks the process to end and returns its exit code.
func (p *process) terminate() int {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(60 * time.Second):
		p.t.Fatalf("the program did not end within 60 s of SIGTERM:\n%s", p.log())
	}
	return p.cmd.ProcessState.ExitCode()
}

func eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// sink is a subscriber: an HTTP server that keeps what it was sent.
type sink struct {
	*httptest.Server
	mu     sync.Mutex
	events []*event.Event
	at     []time.Time
	handle func(w http.ResponseWriter, e *event.Event) bool // false: answered already, do not keep
}

func newSink(t testing.TB) *sink {
	s := &sink{}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender was killed
	}
	e, err := fromRequest(r.Header, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	handle := s.handle
	s.mu.Unlock()
	if handle != nil && !handle(w, e) {
		return
	}
	s.mu.Lock()
	s.events = append(s.events, e)
	s.at = append(s.at, time.Now())
	s.mu.Unlock()
	w.WriteHeader(http.StatusOK)
}

func (s *sink) set(handle func(w http.ResponseWriter, e *event.Event) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle = handle
}

func fromRequest(h http.Header, body []byte) (*event.Event, error) {
	var b event.Binary
	for name, values := range h {
		if attribute, ok := strings.CutPrefix(strings.ToLower(name), "ce-"); ok {
			if err := b.Set(attribute, event.UnescapeHeader(values[0])); err != nil {
				return nil, err
			}
		}
	}
	return b.Event(h.Get("Content-Type"), body)
}

func (s *sink) received() []*event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*event.Event(nil), s.events...)
}

// ids counts how often each id arrived.
func (s *sink) ids() map[string]int {
	out := map[string]int{}
	for _, e := range s.received() {
		out[e.ID()]++
	}
	return out
}

// client posts events; it gives up waiting for an answer after 20 s.
var client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// post sends one binary event and returns the status, or 0 with no answer.
func post(url, id, contentType string, data []byte) (int, string) {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("ce-specversion", "1.0")
	req.Header.Set("ce-id", id)
	req.Header.Set("ce-source", "/test")
	req.Header.Set("ce-type", "test")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return do(req)
}

func do(req *http.Request) (int, string) {
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// publish posts until the event is accepted, as a producer that wants to lose nothing does.
func publish(t testing.TB, url func() string, id string, data []byte) {
	t.Helper()
	eventually(t, 90*time.Second, "event "+id+" is accepted", func() error {
		if code, body := post(url(), id, "application/json", data); code != http.StatusAccepted {
			time.Sleep(50 * time.Millisecond)
			return fmt.Errorf("status %d: %s", code, body)
		}
		return nil
	})
}

// write puts text into a file of the test's own and returns its path.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

const samples = "../../config/samples/"
