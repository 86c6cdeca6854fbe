package node

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/probe"
	grpcprobe "k8s.io/kubernetes/pkg/probe/grpc"
	httpprobe "k8s.io/kubernetes/pkg/probe/http"
	tcpprobe "k8s.io/kubernetes/pkg/probe/tcp"
)

// eager is how soon a container is asked again until it was ready once: tests need not wait for a period. The longer it takes the less often,
// since many that start at once would have no time to.
const eager = 100 * time.Millisecond

// httpProber makes a connection for each question.
var httpProber = httpprobe.New(false)

// ask asks once. The error says why the answer was no.
func ask(ctx context.Context, p *corev1.Probe, t target) error {
	timeout := seconds(p.TimeoutSeconds)
	var result probe.Result
	var output string
	var err error
	switch {
	case p.HTTPGet != nil:
		request, rerr := httpprobe.NewRequestForHTTPGetAction(p.HTTPGet, t.container, t.ip, "probe")
		if rerr != nil {
			return rerr
		}
		result, output, err = httpProber.Probe(request, timeout)
	case p.TCPSocket != nil:
		port, perr := probe.ResolveContainerPort(p.TCPSocket.Port, t.container)
		if perr != nil {
			return perr
		}
		host := t.ip
		if p.TCPSocket.Host != "" {
			host = p.TCPSocket.Host
		}
		result, output, err = tcpprobe.New().Probe(host, port, timeout)
	case p.GRPC != nil:
		service := ""
		if p.GRPC.Service != nil {
			service = *p.GRPC.Service
		}
		result, output, err = grpcprobe.New().Probe(t.ip, service, int(p.GRPC.Port), timeout, grpcprobe.ProbeOptions{})
	case p.Exec != nil:
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, p.Exec.Command[0], p.Exec.Command[1:]...)
		cmd.Env = t.env
		cmd.WaitDelay = time.Second
		return runIn(t.pid, cmd)
	default:
		return nil
	}
	if err == nil && (result == probe.Success || result == probe.Warning) {
		return nil
	}
	return errors.Join(fmt.Errorf("probe: %s", output), err)
}

// target is the running container that a probe asks.
type target struct {
	container *corev1.Container
	ip        string
	pid       int
	env       []string
}

// watcher asks the probes of one running container until its ctx ends.
type watcher struct {
	target  target
	started func()
	ready   func(bool)
	restart func(reason string) // a startup or liveness probe failed for good
}

func (w watcher) run(ctx context.Context) {
	c := w.target.container
	if c.StartupProbe != nil && !w.startup(ctx, c.StartupProbe) {
		return
	}
	w.started()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c.LivenessProbe != nil {
			w.liveness(ctx, c.LivenessProbe)
		}
	}()
	if c.ReadinessProbe == nil {
		w.ready(true)
	} else {
		w.readiness(ctx, c.ReadinessProbe)
	}
	<-done
}

// startup asks until the first yes. The threshold is a time: so many periods.
func (w watcher) startup(ctx context.Context, p *corev1.Probe) bool {
	if !sleep(ctx, seconds(p.InitialDelaySeconds)) {
		return false
	}
	deadline := time.Now().Add(seconds(p.PeriodSeconds) * time.Duration(p.FailureThreshold))
	for wait := eager; ; wait += wait / 4 {
		err := ask(ctx, p, w.target)
		if err == nil {
			return true
		}
		if time.Now().After(deadline) && ctx.Err() == nil {
			w.restart("startup " + err.Error())
			return false
		}
		if !sleep(ctx, min(wait, seconds(p.PeriodSeconds))) {
			return false
		}
	}
}

func (w watcher) liveness(ctx context.Context, p *corev1.Probe) {
	failures := int32(0)
	for wait := seconds(p.InitialDelaySeconds); sleep(ctx, wait); wait = seconds(p.PeriodSeconds) {
		err := ask(ctx, p, w.target)
		if err == nil {
			failures = 0
			continue
		}
		failures++
		if failures >= p.FailureThreshold && ctx.Err() == nil {
			w.restart("liveness " + err.Error())
			return
		}
	}
}

func (w watcher) readiness(ctx context.Context, p *corev1.Probe) {
	yes, no, ready, once := int32(0), int32(0), false, false
	wait, soon := seconds(p.InitialDelaySeconds), eager
	for sleep(ctx, wait) {
		wait = seconds(p.PeriodSeconds)
		if !once {
			wait = min(wait, soon)
			soon += soon / 4
		}
		if ask(ctx, p, w.target) == nil {
			yes, no = yes+1, 0
		} else {
			yes, no = 0, no+1
		}
		switch {
		case !ready && yes >= p.SuccessThreshold:
			ready, once = true, true
		case ready && no >= p.FailureThreshold:
			ready = false
		default:
			continue
		}
		if ctx.Err() == nil {
			w.ready(ready)
		}
	}
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

// sleep reports whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}
