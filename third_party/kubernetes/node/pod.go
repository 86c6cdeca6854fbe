package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// retry is how long a pod waits before it tries again what the API server or a missing object prevented.
	retry = 300 * time.Millisecond
	// resync is how often it looks at its volumes although nobody told of a change: tokens have to be renewed.
	resync = time.Minute
)

// podRunner runs one pod from the moment it is seen until it is gone from the API server.
type podRunner struct {
	node    *node
	pod     *corev1.Pod // as it was when it was first seen, with its address
	ip      [4]byte
	dir     string
	volumes *volumes
	wake    chan struct{} // something may have changed: the pod, what its volumes show, the status
	kill    chan struct{} // closed when there is no grace any more
	stale   atomic.Bool   // a volume may not show what it should

	mu         sync.Mutex
	inits      []*container
	containers []*container
	waiting    error // why the containers have not been started
	inited     bool
	over       bool // every container has ended for good
	deadline   time.Time
}

func newPodRunner(n *node, pod *corev1.Pod, ip [4]byte) *podRunner {
	r := &podRunner{node: n, pod: pod.DeepCopy(), ip: ip, wake: make(chan struct{}, 1), kill: make(chan struct{})}
	r.pod.Status.PodIP = net.IP(ip[:]).String()
	r.dir = filepath.Join(n.dir, "pods", pod.Namespace+"_"+pod.Name)
	r.volumes = &volumes{node: n, pod: r.pod, dir: filepath.Join(r.dir, "volumes"), tokens: map[string]token{}, claims: map[string]string{}}
	for i := range pod.Spec.InitContainers {
		c := newContainer(r, &r.pod.Spec.InitContainers[i], pod.Status.InitContainerStatuses)
		if c.spec.RestartPolicy == nil && c.policy == corev1.RestartPolicyAlways {
			c.policy = corev1.RestartPolicyOnFailure // once it has done its work it is done
		}
		r.inits = append(r.inits, c)
	}
	for i := range pod.Spec.Containers {
		r.containers = append(r.containers, newContainer(r, &r.pod.Spec.Containers[i], pod.Status.ContainerStatuses))
	}
	return r
}

// changed has the runner look again. It does not block.
func (r *podRunner) changed() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// log is where a container's output goes. It stays when the pod is gone.
func (r *podRunner) log(container string) string { return filepath.Join(r.dir, container+".log") }

// run blocks until the pod is gone, or until ctx ends and its processes have.
func (r *podRunner) run(ctx context.Context) {
	defer r.clean()
	if !r.bind(ctx) {
		return
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var done chan struct{}
	if r.pod.Status.Phase == corev1.PodSucceeded || r.pod.Status.Phase == corev1.PodFailed {
		done = make(chan struct{})
		close(done)
	}
	for {
		pod := r.latest()
		switch {
		case pod == nil:
			r.endNow()
			stop()
		case pod.DeletionTimestamp != nil:
			r.setGrace(pod)
			stop()
		}
		again := false
		if done == nil && running.Err() == nil {
			if again = !r.prepare(ctx); !again {
				done = make(chan struct{})
				go func() {
					defer close(done)
					r.work(running)
				}()
			}
		} else if done != nil && running.Err() == nil && r.stale.Swap(false) {
			again = !r.refresh(ctx)
		}
		ended := done == nil || isClosed(done)
		if pod == nil || ctx.Err() != nil {
			if ended {
				return
			}
		} else if err := r.report(ctx, pod); err != nil && !apierrors.IsNotFound(err) {
			again = true
			if !apierrors.IsConflict(err) {
				r.node.log("report %s/%s: %v", pod.Namespace, pod.Name, err)
			}
		} else if pod.DeletionTimestamp != nil && ended {
			if r.finish(ctx, pod) {
				return
			}
			again = true
		}
		r.pause(ctx, done, again)
	}
}

// pause waits until there is something to do, also again.
func (r *podRunner) pause(ctx context.Context, done chan struct{}, again bool) {
	end := ctx.Done()
	if ctx.Err() != nil {
		end = nil // the processes are ending: done says when they have
	}
	if done != nil && isClosed(done) {
		done = nil
	}
	wait := resync
	if again {
		wait = retry
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-end:
		r.endNow()
	case <-r.wake:
	case <-done:
	case <-timer.C:
		r.stale.Store(true)
	}
}

// latest is the pod now, or nil if it is gone.
func (r *podRunner) latest() *corev1.Pod {
	pod, err := r.node.pods.Pods(r.pod.Namespace).Get(r.pod.Name)
	if err != nil || pod.UID != r.pod.UID {
		return nil
	}
	return pod
}

// bind makes the pod this node's. It reports false if the pod went away before.
func (r *podRunner) bind(ctx context.Context) bool {
	for r.pod.Spec.NodeName == "" {
		binding := &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Namespace: r.pod.Namespace, Name: r.pod.Name, UID: r.pod.UID},
			Target:     corev1.ObjectReference{Kind: "Node", Name: r.node.name},
		}
		err := r.node.client.CoreV1().Pods(r.pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
		if err == nil || apierrors.IsConflict(err) {
			r.pod.Spec.NodeName = r.node.name
			return true
		}
		if !sleep(ctx, retry) || r.latest() == nil {
			return false
		}
	}
	return true
}

// prepare makes what the containers need. It reports false, and remembers why, if that has to be tried again.
func (r *podRunner) prepare(ctx context.Context) bool {
	err := os.MkdirAll(r.volumes.dir, 0o755)
	if err == nil {
		search := fmt.Sprintf("nameserver %s\nsearch %s.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n", dnsIP, r.pod.Namespace)
		err = os.WriteFile(filepath.Join(r.dir, "resolv.conf"), []byte(search), 0o644)
	}
	if err == nil {
		err = r.volumes.write(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = err
	return err == nil
}

// refresh updates volumes. What cannot be had now, such as a Secret that was deleted, stays as it was. It reports false if that has to be
// tried again.
func (r *podRunner) refresh(ctx context.Context) bool {
	ok := true
	for _, volume := range r.pod.Spec.Volumes {
		if err := r.volumes.writeVolume(ctx, volume); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
			ok = false
			r.node.log("refresh %s of %s/%s: %v", volume.Name, r.pod.Namespace, r.pod.Name, err)
		}
	}
	return ok
}

// work runs the containers until ctx ends or all have ended for good.
func (r *podRunner) work(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	for _, c := range r.inits {
		if c.spec.RestartPolicy == nil {
			if !c.run(ctx, func() {}) {
				r.end(ctx)
				return
			}
			continue
		}
		started := make(chan struct{})
		var once sync.Once
		group.Go(func() { c.run(ctx, func() { once.Do(func() { close(started) }) }) })
		select {
		case <-started:
		case <-ctx.Done():
			return
		}
	}
	r.mu.Lock()
	r.inited = true
	r.mu.Unlock()
	var regular sync.WaitGroup
	for _, c := range r.containers {
		regular.Go(func() { c.run(ctx, func() {}) })
	}
	regular.Wait()
	r.end(ctx)
}

func (r *podRunner) end(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = ctx.Err() == nil
	r.changed()
}

// setGrace lets the processes take as long as the deletion allows.
func (r *podRunner) setGrace(pod *corev1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deadline = pod.DeletionTimestamp.Time
	if pod.DeletionGracePeriodSeconds == nil || *pod.DeletionGracePeriodSeconds == 0 {
		r.deadline = time.Now()
	}
}

func (r *podRunner) graceLeft() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Until(r.deadline)
}

// endNow ends all grace.
func (r *podRunner) endNow() {
	if !isClosed(r.kill) {
		close(r.kill)
	}
}

// finish removes the pod from the API server, after its processes have ended.
func (r *podRunner) finish(ctx context.Context, pod *corev1.Pod) bool {
	zero := int64(0)
	err := r.node.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	return err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err)
}

// clean removes everything but the logs.
func (r *podRunner) clean() {
	r.endNow()
	err := os.RemoveAll(r.volumes.dir)
	for _, c := range append(append([]*container{}, r.inits...), r.containers...) {
		err = errors.Join(err, os.RemoveAll(filepath.Join(r.dir, c.spec.Name+".root")))
	}
	if err != nil {
		r.node.log("clean up %s/%s: %v", r.pod.Namespace, r.pod.Name, err)
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
