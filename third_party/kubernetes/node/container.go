package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// A container that ends is started again after firstBackoff, then after twice as long each time up to lastBackoff.
// One that ran for lastBackoff starts from the beginning.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 10 * time.Second
)

// container runs one container of a pod, again and again as its policy wants.
type container struct {
	pod    *podRunner
	spec   *corev1.Container
	policy corev1.RestartPolicy

	mu     sync.Mutex
	status corev1.ContainerStatus
}

func newContainer(r *podRunner, spec *corev1.Container, old []corev1.ContainerStatus) *container {
	c := &container{pod: r, spec: spec, policy: r.pod.Spec.RestartPolicy}
	if spec.RestartPolicy != nil {
		c.policy = corev1.RestartPolicy(*spec.RestartPolicy)
	}
	c.status = corev1.ContainerStatus{Name: spec.Name, Image: spec.Image, ImageID: "local://" + spec.Image}
	c.status.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	for _, s := range old {
		if s.Name == spec.Name {
			c.status.RestartCount = s.RestartCount
			if s.State.Running != nil || s.State.Terminated != nil {
				c.status.RestartCount++
			}
		}
	}
	return c
}

// update changes the status and has it sent.
func (c *container) update(change func(*corev1.ContainerStatus)) {
	c.mu.Lock()
	change(&c.status)
	c.mu.Unlock()
	c.pod.changed()
}

func (c *container) current() corev1.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.status.DeepCopy()
}

// run runs the container until ctx ends, or until it has ended and is not to be started again. It reports whether it exited with 0.
func (c *container) run(ctx context.Context, started func()) bool {
	backoff := firstBackoff
	for {
		begin := time.Now()
		code, err := c.once(ctx, started)
		if ctx.Err() != nil {
			return code == 0
		}
		if err == nil && (c.policy == corev1.RestartPolicyNever || c.policy == corev1.RestartPolicyOnFailure && code == 0) {
			return code == 0
		}
		if time.Since(begin) > lastBackoff {
			backoff = firstBackoff
		}
		c.wait(err)
		if !sleep(ctx, backoff) {
			return false
		}
		backoff = min(2*backoff, lastBackoff)
		if err == nil {
			c.update(func(s *corev1.ContainerStatus) { s.RestartCount++ })
		}
	}
}

// wait marks the container as waiting to be started again.
func (c *container) wait(err error) {
	c.update(func(s *corev1.ContainerStatus) {
		waiting := &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
		if err != nil {
			waiting = &corev1.ContainerStateWaiting{Reason: "CreateContainerError", Message: err.Error()}
		}
		if s.State.Terminated != nil {
			s.LastTerminationState = s.State
		}
		s.State = corev1.ContainerState{Waiting: waiting}
	})
}

// once runs the container's process once. It returns when the process has ended; an error says why there was none.
func (c *container) once(ctx context.Context, started func()) (int, error) {
	cmd, box, err := c.command()
	if err != nil {
		return -1, err
	}
	log, err := os.OpenFile(c.pod.log(c.spec.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return -1, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	p, err := box.start(cmd)
	if err != nil {
		return -1, err
	}
	begin := metav1.Now()
	c.update(func(s *corev1.ContainerStatus) {
		s.ContainerID = fmt.Sprintf("process://%d", cmd.Process.Pid)
		s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: begin}}
	})
	reason := c.supervise(ctx, p, started)
	code := exitCode(cmd.ProcessState)
	c.update(func(s *corev1.ContainerStatus) {
		s.Ready, s.Started = false, new(bool)
		terminated := &corev1.ContainerStateTerminated{
			ExitCode: int32(code), Reason: "Error", Message: reason, StartedAt: begin, FinishedAt: metav1.Now(), ContainerID: s.ContainerID,
		}
		if code == 0 {
			terminated.Reason = "Completed"
		}
		s.State = corev1.ContainerState{Terminated: terminated}
	})
	return code, nil
}

// supervise asks the probes until the process has ended, which it sees to when ctx ends or a probe gives up. It returns why.
func (c *container) supervise(ctx context.Context, p *process, started func()) string {
	probes, stop := context.WithCancel(ctx)
	failed := make(chan string, 1)
	w := watcher{
		target: target{container: c.spec, ip: c.pod.pod.Status.PodIP, pid: p.cmd.Process.Pid, env: p.cmd.Env},
		started: func() {
			yes := true
			c.update(func(s *corev1.ContainerStatus) { s.Started = &yes })
			started()
		},
		ready: func(ready bool) { c.update(func(s *corev1.ContainerStatus) { s.Ready = ready }) },
		restart: func(reason string) {
			select {
			case failed <- reason:
			default:
			}
		},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(probes)
	}()
	defer func() {
		stop()
		<-done
	}()
	select {
	case <-p.exited:
		return ""
	case reason := <-failed:
		p.stop(ctx, seconds(30), c.pod.kill)
		return reason
	case <-ctx.Done():
		p.stop(context.Background(), c.pod.graceLeft(), c.pod.kill)
		return ""
	}
}

// stop ends the process with SIGTERM, and with SIGKILL after grace, when ctx ends or kill is closed.
func (p *process) stop(ctx context.Context, grace time.Duration, kill <-chan struct{}) {
	if grace > 0 {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-p.exited:
			return
		case <-timer.C:
		case <-ctx.Done():
		case <-kill:
		}
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

func exitCode(s *os.ProcessState) int {
	if status, ok := s.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return s.ExitCode()
}

// command is the container's process and what it sees.
func (c *container) command() (*exec.Cmd, sandbox, error) {
	r := c.pod
	image, err := findProgram(r.node.dir, c.spec.Image)
	if err != nil {
		return nil, sandbox{}, err
	}
	env, lookup, err := r.node.environment(r.pod, c.spec)
	if err != nil {
		return nil, sandbox{}, err
	}
	words := []string(image)
	if len(c.spec.Command) > 0 {
		words = nil
	}
	expand := expansion.MappingFuncFor(lookup)
	for _, word := range append(append([]string{}, c.spec.Command...), c.spec.Args...) {
		words = append(words, expansion.Expand(word, expand))
	}
	path := words[0]
	if !strings.Contains(path, "/") {
		if path, err = exec.LookPath(path); err != nil {
			return nil, sandbox{}, err
		}
	}
	box := sandbox{root: filepath.Join(r.dir, c.spec.Name+".root"), host: r.pod.Name, ip: r.ip}
	if err := os.MkdirAll(box.root, 0o755); err != nil {
		return nil, sandbox{}, err
	}
	box.mounts = append(box.mounts, mount{source: filepath.Join(r.dir, "resolv.conf"), target: "/etc/resolv.conf"})
	for _, m := range c.spec.VolumeMounts {
		source, err := r.source(m, expand)
		if err != nil {
			return nil, sandbox{}, err
		}
		box.mounts = append(box.mounts, mount{source: source, target: m.MountPath, readOnly: m.ReadOnly})
	}
	return &exec.Cmd{Path: path, Args: words, Env: env, Dir: c.spec.WorkingDir}, box, nil
}

// source is the path on the machine that is mounted.
func (r *podRunner) source(m corev1.VolumeMount, expand func(string) string) (string, error) {
	for _, v := range r.pod.Spec.Volumes {
		if v.Name != m.Name {
			continue
		}
		path := filepath.Join(r.volumes.path(v), m.SubPath, expansion.Expand(m.SubPathExpr, expand))
		if _, err := os.Stat(path); err != nil && v.EmptyDir != nil {
			return path, os.MkdirAll(path, 0o777)
		}
		return path, nil
	}
	return "", fmt.Errorf("there is no volume %s", m.Name)
}
