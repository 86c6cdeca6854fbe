package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// child is a sub-command of this binary that runs as a process of its own, so that it can be killed and started again.
// Its output is appended to DIR/<name>.log; DIR/<name>.pid says which process it is.
type child struct {
	name string
	dir  string
	args []string

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
}

// start starts the process unless it runs.
func (c *child) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exited != nil && !isClosed(c.exited) {
		return nil
	}
	log, err := os.OpenFile(filepath.Join(c.dir, c.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.cmd = exec.Command(self, append([]string{c.name}, c.args...)...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.exited = make(chan struct{})
	started := make(chan error, 1)
	// On a thread that lives as long as the child: Pdeathsig is sent when the thread dies, not the process.
	go func(cmd *exec.Cmd, exited chan struct{}) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			fmt.Printf("%s ended: %s\n", c.name, cmd.ProcessState)
		}
	}(c.cmd, c.exited)
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	return os.WriteFile(filepath.Join(c.dir, c.name+".pid"), []byte(strconv.Itoa(c.cmd.Process.Pid)), 0o644)
}

// running returns nil while the process runs.
func (c *child) running() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exited == nil || isClosed(c.exited) {
		return fmt.Errorf("%s ended, see %s", c.name, filepath.Join(c.dir, c.name+".log"))
	}
	return nil
}

// stop ends the process with SIGTERM, and with SIGKILL if that takes too long.
func (c *child) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exited == nil || isClosed(c.exited) {
		return
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.exited:
	case <-time.After(5 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.exited
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
