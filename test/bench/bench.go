package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type bench struct {
	dir         string
	events      int
	connections int
	program     string
	sink        *sink
	sequence    atomic.Int64
}

func (b *bench) build() error {
	if b.program == "" {
		b.program = filepath.Join(b.dir, "events")
		build := exec.Command("go", "build", "-o", b.program, "github.com/openfunction/events/cmd/events")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build: %w", err)
		}
	}
	var err error
	b.sink, err = newSink()
	return err
}

// sink counts what it is sent and tells when it arrived.
type sink struct {
	url     string
	count   atomic.Int64
	delay   atomic.Int64
	arrived sync.Map // id -> time.Time, while latencies are measured
	keep    atomic.Bool
}

func newSink() (*sink, error) {
	s := &sink{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.url = "http://" + l.Addr().String() + "/"
	go func() { _ = http.Serve(l, s) }()
	return s, nil
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if d := s.delay.Load(); d > 0 {
		time.Sleep(time.Duration(d))
	}
	if s.keep.Load() {
		s.arrived.LoadOrStore(r.Header.Get("Ce-Id"), time.Now())
	}
	s.count.Add(1)
	w.WriteHeader(http.StatusAccepted)
}

type program struct {
	cmd *exec.Cmd
	url string
}

func (b *bench) start(triggers int) (*program, error) {
	var y strings.Builder
	y.WriteString("apiVersion: events.openfunction.io/v1alpha1\nkind: EventBus\nmetadata: {name: default}\nspec: {embedded: {}}\n---\n")
	y.WriteString("apiVersion: events.openfunction.io/v1alpha1\nkind: EventSource\nmetadata: {name: bench}\nspec:\n  eventBus: default\n  http:\n")
	for i := range triggers {
		fmt.Fprintf(&y, "    e%d: {}\n", i)
	}
	for i := range triggers {
		fmt.Fprintf(&y, "---\napiVersion: events.openfunction.io/v1alpha1\nkind: Trigger\nmetadata: {name: t%d}\nspec:\n  inputs: {e: {eventSource: bench, event: e%d}}\n  subscribers:\n  - condition: e\n    sink: {uri: %q}\n", i, i, b.sink.url)
	}
	file := filepath.Join(b.dir, "bench.yaml")
	if err := os.WriteFile(file, []byte(y.String()), 0o600); err != nil {
		return nil, err
	}
	data, err := os.MkdirTemp(b.dir, "data-")
	if err != nil {
		return nil, err
	}
	p := &program{cmd: exec.Command(b.program, "run", "-f", file, "--listen", "127.0.0.1:0", "--data", data, "--log-level", "warn")}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if _, url, found := strings.Cut(lines.Text(), "listening on "); found {
			p.url = strings.TrimSpace(url)
			go func() { // what it says from now on is news, but for what to try
				for lines.Scan() {
					if !strings.HasPrefix(lines.Text(), "try: ") {
						fmt.Fprintln(os.Stderr, lines.Text())
					}
				}
			}()
			return p, nil
		}
	}
	_ = p.cmd.Wait()
	return nil, errors.New("the program ended before it listened")
}

func (p *program) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

// rss is the most resident memory that the program has had, in MiB.
func (p *program) rss() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kib / 1024, err
}

// cpu is the processor time that the program has used.
func (p *program) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name before it may hold spaces
	fields := strings.Fields(rest)
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime, in ticks of 10 ms: see proc(5)
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

var payload = []byte(`{"order":"` + strings.Repeat("x", 244) + `"}`)

func (b *bench) client() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: b.connections, MaxConnsPerHost: b.connections}, Timeout: 30 * time.Second}
}

func (b *bench) post(c *http.Client, url string) (id string, err error) {
	id = strconv.FormatInt(b.sequence.Add(1), 10)
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(payload))
	if err != nil {
		return id, err
	}
	req.Header = http.Header{
		"Ce-Specversion": {"1.0"}, "Ce-Id": {id}, "Ce-Source": {"/bench"}, "Ce-Type": {"bench"}, "Content-Type": {"application/json"},
	}
	resp, err := c.Do(req)
	if err != nil {
		return id, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return id, fmt.Errorf("post %s: status %d", url, resp.StatusCode)
	}
	return id, nil
}

// throughput is events per second from the first one sent until the last has arrived at the sink.
func (b *bench) throughput(url string) (float64, error) {
	c := b.client()
	defer c.CloseIdleConnections()
	want := b.sink.count.Load() + int64(b.events)
	var left atomic.Int64
	left.Store(int64(b.events))
	failures := make(chan error, b.connections)
	begin := time.Now()
	var workers sync.WaitGroup
	for range b.connections {
		workers.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := b.post(c, url); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	workers.Wait()
	if len(failures) > 0 {
		return 0, <-failures
	}
	for b.sink.count.Load() < want {
		if time.Since(begin) > 5*time.Minute {
			return 0, fmt.Errorf("%d events did not arrive", want-b.sink.count.Load())
		}
		time.Sleep(time.Millisecond)
	}
	return float64(b.events) / time.Since(begin).Seconds(), nil
}

// latency sends at a steady rate and returns, sorted, how long publishing took and how long after being sent an event was at the sink.
func (b *bench) latency(url string, rate float64, d time.Duration) (publish, end []time.Duration, err error) {
	c := b.client()
	defer c.CloseIdleConnections()
	b.sink.arrived.Clear()
	b.sink.keep.Store(true)
	defer b.sink.keep.Store(false)
	var mu sync.Mutex
	sent := map[string]time.Time{}
	slots := make(chan struct{}, 16*b.connections) // bounds what is under way when the program cannot keep up
	var workers sync.WaitGroup
	n := int(rate * d.Seconds())
	begin := time.Now()
	for i := range n {
		time.Sleep(time.Until(begin.Add(time.Duration(float64(i) / rate * 1e9))))
		slots <- struct{}{}
		workers.Go(func() {
			defer func() { <-slots }()
			at := time.Now()
			id, failed := b.post(c, url)
			took := time.Since(at)
			mu.Lock()
			defer mu.Unlock()
			if failed != nil {
				err = failed
				return
			}
			publish, sent[id] = append(publish, took), at
		})
	}
	workers.Wait()
	if err != nil {
		return nil, nil, err
	}
	if b.sink.delay.Load() == 0 {
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if end = b.ends(sent); len(end) == len(sent) {
				break
			}
		}
	}
	slices.Sort(publish)
	slices.Sort(end)
	return publish, end, nil
}

func (b *bench) ends(sent map[string]time.Time) (out []time.Duration) {
	for id, at := range sent {
		if arrived, ok := b.sink.arrived.Load(id); ok {
			out = append(out, arrived.(time.Time).Sub(at))
		}
	}
	return out
}
