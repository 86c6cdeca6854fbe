// Package servers starts real brokers for end-to-end tests.
package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout bounds how long a server may take until it is ready.
const startTimeout = 2 * time.Minute

// Build compiles pkg with the module in moduleDir, which is relative to the repository's root, and returns the binary's path.
// The binary is kept in bin/test of this checkout; a file lock makes test processes that run at once wait for one build.
// A process builds it once: go build takes seconds of processor time to find that there is nothing to do. The flags are those of go build.
func Build(t testing.TB, moduleDir, pkg, name string, flags ...string) string {
	t.Helper()
	key := fmt.Sprintf("%q", append([]string{moduleDir, pkg, name}, flags...))
	if path, ok := built.Load(key); ok {
		return path.(string)
	}
	path, err := build(t.Context(), filepath.Join(root(), moduleDir), pkg, name, flags...)
	if err != nil {
		t.Fatal(err)
	}
	built.Store(key, path)
	return path
}

// built are the paths of what this process has built.
var built sync.Map

func build(ctx context.Context, dir, pkg, name string, flags ...string) (string, error) {
	bin := filepath.Join(root(), "bin", "test")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	unlock, err := lockFile(filepath.Join(bin, name+".lock"), syscall.LOCK_EX)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	defer unlock()
	path := filepath.Join(bin, name)
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-C", dir, "-o", path}, flags, []string{pkg})...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return path, nil
}

// lockFile waits for the lock of a file: for all of it, or for a share (syscall.LOCK_SH).
func lockFile(path string, how int) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

// root is the repository's root, from where this file was compiled.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Process is a server that runs until it is killed or the test ends.
type Process struct {
	cmd    *exec.Cmd
	output *output
	exited chan struct{}
	err    error // valid once exited is closed
}

// StartProcess starts cmd and returns once ready returns nil. It fails the test, with the output, if that takes too long.
// The process dies with the test at the latest.
func StartProcess(t testing.TB, cmd *exec.Cmd, ready func() error) *Process {
	t.Helper()
	Beside(t)
	p := &Process{cmd: cmd, output: &output{}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	t.Cleanup(p.Kill)
	if err := p.await(ready); err != nil {
		p.Kill()
		t.Fatalf("start %s: %v\n%s", cmd.Path, err, p.Output())
	}
	return p
}

// start forks on a thread of its own that lives as long as the child: Pdeathsig is sent when the thread dies, not the process.
func (p *Process) start() error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
		close(p.exited)
	}()
	return <-started
}

func (p *Process) await(ready func() error) error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %s: %w", startTimeout, err)
		}
		select {
		case <-p.exited:
			return fmt.Errorf("exited: %w", errors.Join(p.err, err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kill ends the process and its children with SIGKILL and waits for it. Calling it again does nothing.
func (p *Process) Kill() {
	select {
	case <-p.exited:
		return
	default:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

// Wait returns when the process has ended, with the reason.
func (p *Process) Wait() error {
	<-p.exited
	return p.err
}

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Output is the end of what the process wrote to its standard output and error.
func (p *Process) Output() string { return p.output.String() }

// Listening returns a ready function for StartProcess: nil once something accepts connections at address.
func Listening(address string) func() error {
	return func() error {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// output keeps the last bytes of a process's output.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const outputLimit = 64 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf.Len()+len(p) > outputLimit {
		o.buf.Next(min(o.buf.Len(), o.buf.Len()+len(p)-outputLimit))
	}
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
