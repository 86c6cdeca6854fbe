package main

import (
	"errors"
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
)

const hangingSink = goodBus + `---
apiVersion: events.openfunction.io/v1alpha1
kind: EventSource
metadata: {name: es}
spec:
  http:
    e: {raw: true}
---
apiVersion: events.openfunction.io/v1alpha1
kind: Trigger
metadata: {name: t}
spec:
  inputs:
    a: {eventSource: es, event: e}
  subscribers:
  - condition: a
    sink: {ref: {apiVersion: v1, kind: Service, name: s}}
`

// program starts this program as a process of its own; when the test is over it is killed if it still runs.
func program(t *testing.T, stderr *lines, stdout io.Writer, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), asProgram+"=1")
	c.Stdout, c.Stderr = stdout, stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	return c
}

func TestAReaderThatHasSeenEnoughEndsTheRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(file, []byte(hangingSink), 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr lines
	c := program(t, &stderr, w, "run", "-f", file, "--listen", "127.0.0.1:0")
	_ = w.Close()
	_ = r.Close()
	url := stderr.wait(t, `^listening on (\S+)$`)[1]
	answer, err := http.Post(url+"/default/es/e", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if err := c.Wait(); err != nil {
		t.Errorf("the run ended with %v, want exit code 0\n%s", err, stderr.String())
	}
}

func (l *lines) wait(t *testing.T, pattern string) []string {
	t.Helper()
	expression := regexp.MustCompile("(?m)" + pattern)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if m := expression.FindStringSubmatch(l.String()); m != nil {
			return m
		}
	}
	t.Fatalf("no %q in:\n%s", pattern, l.String())
	return nil
}

func TestSignals(t *testing.T) {
	tests := []struct {
		name     string
		hangs    bool
		released bool // after the first signal
		signals  []os.Signal
		code     int
	}{
		{"SIGINT ends an idle run well", false, false, []os.Signal{os.Interrupt}, 0},
		{"SIGTERM too", false, false, []os.Signal{syscall.SIGTERM}, 0},
		{"and a terminal that is closed", false, false, []os.Signal{syscall.SIGHUP}, 0},
		{"SIGTERM waits for a delivery under way", true, true, []os.Signal{syscall.SIGTERM}, 0},
		{"a second SIGINT does not wait for a sink that hangs", true, false, []os.Signal{os.Interrupt, os.Interrupt}, 130},
		{"nor does a second signal of another kind", true, false, []os.Signal{os.Interrupt, syscall.SIGTERM}, 143},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			arrived, release := make(chan struct{}, 10), make(chan struct{})
			sink := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				arrived <- struct{}{}
				<-release
			}))
			defer sink.Close()
			letGo := sync.OnceFunc(func() { close(release) })
			defer letGo()
			file := filepath.Join(t.TempDir(), "a.yaml")
			if err := os.WriteFile(file, []byte(hangingSink), 0o600); err != nil {
				t.Fatal(err)
			}
			var stderr lines
			c := program(t, &stderr, nil, "run", "-f", file, "--listen", "127.0.0.1:0", "--data", t.TempDir(), "--sink", "default/s="+sink.URL)
			url := stderr.wait(t, `^listening on (\S+)$`)[1]
			if tt.hangs {
				r, err := http.Post(url+"/default/es/e", "application/json", strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				_ = r.Body.Close()
				<-arrived
			}
			start := time.Now()
			for i, s := range tt.signals {
				if i > 0 {
					stderr.wait(t, `^draining: .*a second signal ends at once$`)
				}
				start = time.Now()
				if err := c.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			ended := make(chan error, 1)
			go func() { ended <- c.Wait() }()
			if tt.released {
				stderr.wait(t, `^draining: `)
				select {
				case err := <-ended:
					ended <- err
					if took := time.Since(start); took < 4*time.Second { // which is less than a drain may take
						t.Errorf("it ended %s after the signal, before its delivery did", took)
					}
				case <-time.After(200 * time.Millisecond):
				}
				letGo()
			}
			err := <-ended
			code := 0
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				code = exit.ExitCode()
			}
			if code != tt.code {
				t.Errorf("exit code %d (%v), want %d\n%s", code, err, tt.code, stderr.String())
			}
			if took := time.Since(start); tt.code != 0 && took > 2*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestWhatIsLostAtTheEndIsSaid(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		data   bool
		want   string // the last line
	}{
		{"events that wait", http.StatusServiceUnavailable, false, "3 events were still waiting and are gone: --data DIR keeps them"},
		{"events that wait on disk", http.StatusServiceUnavailable, true, ""},
		{"dead letters", http.StatusBadRequest, false, "gone with the bus: 3 dead letters: --data DIR keeps them"},
		{"events that were delivered", http.StatusOK, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			arrived := make(chan struct{}, 100)
			sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				arrived <- struct{}{}
			}))
			defer sink.Close()
			file := filepath.Join(t.TempDir(), "a.yaml")
			if err := os.WriteFile(file, []byte(hangingSink), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"run", "-f", file, "--listen", "127.0.0.1:0", "--sink", "default/s=" + sink.URL}
			if tt.data {
				args = append(args, "--data", t.TempDir())
			}
			var stdout, stderr lines
			c := program(t, &stderr, &stdout, append(args, "--output", "json")...)
			url := stderr.wait(t, `^listening on (\S+)$`)[1]
			for range 3 {
				r, err := http.Post(url+"/default/es/e", "application/json", strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				_ = r.Body.Close()
				<-arrived
			}
			if tt.status == http.StatusBadRequest {
				stdout.wait(t, `(?s)(deadletter topic .*){3}`)
			}
			if err := c.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := c.Wait(); err != nil {
				t.Errorf("it ended with %v, want exit code 0", err)
			}
			said := stderr.String()
			if tt.want == "" && strings.Contains(said, "gone") || tt.want != "" && !strings.Contains(said, "\n"+tt.want+"\n") {
				t.Errorf("it says %q\nwant %q", said, tt.want)
			}
		})
	}
}
