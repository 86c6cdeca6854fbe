//go:build e2e && linux

package embedded

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

// backlog is what was published and is received only when it may be.
type backlog struct {
	t     *testing.T
	topic event.Handler
	taken []string

	mu   sync.Mutex
	held []*bus.Message // until open
	open bool
	came map[string]bool
}

func newBacklog(t *testing.T, b bus.Bus) *backlog {
	t.Helper()
	const topic = "openfunction.test.es.full"
	l := &backlog{t: t, topic: b.Topic(bus.Topic{Name: topic}), came: map[string]bool{}}
	l.subscribe(b, topic)
	return l
}

func (l *backlog) subscribe(b bus.Bus, topic string) {
	l.t.Helper()
	ready, received := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	s := bus.Subscription{Name: "full", Topics: []string{topic}, Ready: func(err error) {
		if err == nil {
			once.Do(func() { close(ready) })
		}
	}}
	go func() { received <- b.Subscribe(l.t.Context(), s, l.receive) }()
	l.t.Cleanup(func() { <-received })
	select {
	case <-ready:
	case <-time.After(time.Minute):
		l.t.Fatal("the subscription is not ready within a minute")
	}
}

func (l *backlog) receive(m *bus.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open {
		l.held = append(l.held, m)
		return
	}
	l.came[m.Event.ID()] = true
	m.Done(nil)
}

// release lets what was published be received.
func (l *backlog) release() {
	l.mu.Lock()
	l.open = true
	held := l.held
	l.mu.Unlock()
	for _, m := range held {
		l.receive(m)
	}
}

// publish publishes one event once.
func (l *backlog) publish() error {
	id := "e" + strconv.Itoa(len(l.taken))
	err := l.topic.Handle(l.t.Context(), newEvent(l.t, id, make([]byte, 64<<10)))
	if err == nil {
		l.taken = append(l.taken, id)
	}
	return err
}

// publishUntilFull publishes until that is refused for want of room, and returns the refusal.
func (l *backlog) publishUntilFull() *event.Unavailable {
	l.t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		var away *event.Unavailable
		switch err = l.publish(); {
		case err == nil:
		case !errors.As(err, &away):
			l.t.Fatalf("publish = %v, want *event.Unavailable", err)
		case away.Full:
			l.t.Logf("after %d events: %v", len(l.taken), err)
			return away
		default:
			time.Sleep(50 * time.Millisecond)
		}
	}
	l.t.Fatalf("not full within a minute: %v", err)
	return nil
}

// publishMore wants so many more events to be taken.
func (l *backlog) publishMore(n int) {
	l.t.Helper()
	want := len(l.taken) + n
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && len(l.taken) < want; {
		if err = l.publish(); err != nil {
			time.Sleep(50 * time.Millisecond)
		}
	}
	if len(l.taken) < want {
		l.t.Fatalf("no more events are taken: %v", err)
	}
}

// all wants everything that was taken to come.
func (l *backlog) all() {
	l.t.Helper()
	missing := 0
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		missing = 0
		l.mu.Lock()
		for _, id := range l.taken {
			if !l.came[id] {
				missing++
			}
		}
		l.mu.Unlock()
		if missing == 0 {
			l.t.Logf("%d events taken, none lost", len(l.taken))
			return
		}
	}
	l.t.Errorf("%d of %d events are lost", missing, len(l.taken))
}

func inProcess(t *testing.T, dir string) (*Server, bus.Bus) {
	t.Helper()
	s, err := Start(Options{Dir: filepath.Join(dir, "bus"), SyncInterval: time.Second, Recover: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	b := jetstream.New(context.Background(), jetstream.Options{
		Name: "EventBus test/test", InProcess: s, Trouble: s.Trouble, Config: plan.JetStream{Replicas: 1, AckWait: ackWait},
	})
	t.Cleanup(func() { _ = b.Close() })
	return s, b
}

// TestE2EAFullDisk wants a server to refuse events when its disk is full, to deliver what it has even when others take the rest, and to go on
// by itself when there is room. This disk is so fast and small that it may be full between two looks, or a write of the server's own may fail.
func TestE2EAFullDisk(t *testing.T) {
	t.Parallel()
	disk := servers.Disk(t, 32)
	s, b := inProcess(t, disk.Dir)
	l := newBacklog(t, b)
	if why := l.publishUntilFull(); !strings.Contains(why.Error(), "its disk is full") || strings.Contains(why.Error(), disk.Dir) {
		t.Errorf("the refusal is %q, want that the disk is full, and no path: who publishes may be anybody", why)
	}
	if err := b.Ready(); err == nil || !strings.Contains(err.Error(), "the disk of "+filepath.Join(disk.Dir, "bus")+" is full, make room there") {
		t.Errorf("Ready() = %v, want which disk is full", err)
	}
	free := disk.Fill(0)
	l.publishUntilFull()
	l.release()
	l.all()
	free()
	l.publishMore(100)
	l.all()
	if err := errors.Join(s.Trouble(), s.Alive(), b.Ready()); err != nil {
		t.Errorf("when there is room again: %v, want nil", err)
	}
}

// TestE2EADiskThatFails wants a server that has given up its disk to start again by itself and to go on when the disk can be written.
func TestE2EADiskThatFails(t *testing.T) {
	t.Parallel()
	disk := servers.Disk(t, 96)
	s, b := inProcess(t, disk.Dir)
	l := newBacklog(t, b)
	l.publishMore(1)
	disk.LimitFiles(2)
	l.publishUntilFull()
	disk.LimitFiles(0)
	l.publishMore(100)
	l.release()
	l.all()
	if err := errors.Join(s.Trouble(), s.Alive(), b.Ready()); err != nil {
		t.Errorf("when the disk can be written again: %v, want nil", err)
	}
}

// TestE2EALivenessOfADiskThatFails wants a server in a pod to ask for its end when a write has failed, and to have all that it took when it
// is there again.
func TestE2EALivenessOfADiskThatFails(t *testing.T) {
	t.Parallel()
	disk := servers.Disk(t, 96)
	m := newMembersIn(t, disk.Dir)
	b := m.bus()
	t.Cleanup(func() { _ = b.Close() })
	l := newBacklog(t, b)
	l.publishMore(1)
	if says := m.says("healthz"); says != "ok\n" {
		t.Errorf("/healthz says %q before", says)
	}
	disk.LimitFiles(2)
	l.publishUntilFull()
	for _, path := range []string{"healthz", "readyz"} {
		if says := m.says(path); !strings.Contains(says, "write error: ") || !strings.Contains(says, "no space left on device") {
			t.Errorf("/%s says %q, want the write error", path, says)
		}
	}
	if output := m.all[0].process.Output(); strings.Count(output, `"bus takes no events"`) != 1 {
		t.Errorf("want that it takes no events said once:\n%s", output)
	}
	disk.LimitFiles(0)
	m.all[0].process.Kill()
	m.start()
	l.publishMore(100)
	l.release()
	l.all()
}

// TestE2EAFullMember wants two members of three to go on while the disk of the third is full, although it led the stream, and that one to be back
// when there is room: by itself, or once it was started again because its liveness asked for that.
func TestE2EAFullMember(t *testing.T) {
	t.Parallel()
	disk := servers.Disk(t, 64)
	m := newMembersIn(t, disk.Dir, t.TempDir(), t.TempDir())
	b := m.bus()
	t.Cleanup(func() { _ = b.Close() })
	l := newBacklog(t, b)
	l.publishMore(10)
	m.lead("openfunction-events", 0)
	free := disk.Fill(3) // of 4 that it leaves free
	l.publishMore(5)
	l.publishMore(100) // more than it has room for, as one that follows
	if output := m.all[0].process.Output(); !strings.Contains(output, `"bus takes no events"`) {
		t.Errorf("want the full member to say that it takes no events:\n%s", output)
	}
	free()
	for deadline := time.Now().Add(2 * time.Minute); probe(m.all[0].admin, "readyz") != nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the member that was full is not ready:\n%s", m.all[0].process.Output())
		}
		if probe(m.all[0].admin, "healthz") != nil { // which is asked for this long by Kubernetes, too
			m.all[0].process.Kill()
			m.startOne(0)
		}
	}
	l.publishMore(10)
	// What the full one did not get while it was full it has by now: it is half of those that are left.
	m.all[1].process.Kill()
	l.publishMore(10)
	l.release()
	l.all()
}

// lead makes a member the leader of a stream.
func (m *members) lead(stream string, i int) {
	m.t.Helper()
	nc, want := m.connect(m.t), "b-"+strconv.Itoa(i)
	said := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		answer, err := nc.Request("$JS.API.STREAM.INFO."+stream, nil, 5*time.Second)
		if err != nil {
			continue
		}
		if said = string(answer.Data); strings.Contains(said, `"leader":"`+want+`"`) {
			return
		}
		_, _ = nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, []byte(`{"placement":{"preferred":"`+want+`"}}`), 5*time.Second)
	}
	m.t.Fatalf("%s does not lead %s within a minute: %s", want, stream, said)
}

// says returns what a probe of the first member answers.
func (m *members) says(path string) string {
	m.t.Helper()
	answer, err := http.Get("http://" + m.all[0].admin + "/" + path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}
