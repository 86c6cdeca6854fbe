package natsstreaming

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	stand "github.com/nats-io/nats-streaming-server/server"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/plan"
)

// guarded starts a NATS server in this process that lets in whom o says, and a NATS Streaming server that is a client of it.
func guarded(t *testing.T, o *natsd.Options) *natsd.Server {
	t.Helper()
	o.Host, o.Port, o.NoLog, o.NoSigs = "127.0.0.1", natsd.RANDOM_PORT, true, true
	o.Users = append(o.Users, &natsd.User{Username: "stan", Password: "itself"})
	s, err := natsd.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server is not ready")
	}
	streaming := stand.GetDefaultOptions()
	streaming.ID, streaming.NATSServerURL = "stan", "nats://stan:itself@"+s.Addr().String()
	ss, err := stand.RunServerWithOpts(streaming, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ss.Shutdown)
	return s
}

// A server never answers what it does not permit. That is said, of that request only, and passes when it permits.
func TestWhatIsNotPermittedIsSaid(t *testing.T) {
	denied := &natsd.SubjectPermission{Deny: []string{"_STAN.pub.*.forbidden", "_STAN.sub.>"}}
	o := &natsd.Options{Users: []*natsd.User{{Username: "events", Password: "p", Permissions: &natsd.Permissions{Publish: denied}}}}
	s := guarded(t, o)
	core, logs := observer.New(zap.InfoLevel)
	c := config("nats://" + s.Addr().String())
	c.NATSAccess = plan.NATSAccess{Username: "events", Password: "p"}
	b := New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), Options{Name: "EventBus a/b", Config: c, Instance: instance()})
	t.Cleanup(func() { _ = b.Close() })
	publish(t, b, "permitted", "e1")
	in := startSubscription(t, b, bus.Subscription{Name: "s", Topics: []string{"permitted"}})

	err := b.Topic(bus.Topic{Name: "forbidden"}).Handle(t.Context(), newEvent(t, "e2", "", nil))
	var away *event.Unavailable
	if want := `.forbidden"): permit to publish`; !errors.As(err, &away) || !strings.Contains(err.Error(), want) {
		t.Errorf("Handle = %v, want *event.Unavailable with %q", err, want)
	}
	eventually(t, "the subscription says what is not permitted", func() bool {
		err := in.ready()
		return err != nil && strings.Contains(err.Error(), `Publish to "_STAN.sub.`) && strings.Contains(err.Error(), "permit to publish")
	})
	publish(t, b, "permitted", "e3")
	if n := logs.FilterMessage("event bus connected").Len(); n != 1 {
		t.Errorf("connected %d times, want once: the rest goes on", n)
	}

	permitted := o.Clone()
	permitted.Users[0].Permissions = nil
	if err := s.ReloadOptions(permitted); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "forbidden", "e4")
	eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
	publish(t, b, "permitted", "e5")
	in.wants(t, "e5")
}

// A changed password is another Bus beside the one before, which has the client id for as long as its subscribers end. Nobody is refused, and
// nothing is said.
func TestAnotherPasswordRefusesNobody(t *testing.T) {
	s := guarded(t, &natsd.Options{Users: []*natsd.User{{Username: "before", Password: "p"}, {Username: "after", Password: "p"}}})
	for _, queue := range []bool{true, false} {
		t.Run(fmt.Sprintf("queue %v", queue), func(t *testing.T) {
			for n := range 5 { // an attempt in which the machine stalls for longer than a connection or a publication waits does not count
				if passwordChanges(t, s, queue, fmt.Sprint("rotated-", queue, n)) {
					return
				}
			}
			t.Error("somebody is refused each time, or something is said")
		})
	}
}

// passwordChanges tells whether nobody is refused, and nothing is said.
func passwordChanges(t *testing.T, s *natsd.Server, queue bool, instance string) bool {
	core, logs := observer.New(zap.WarnLevel)
	closed := make(chan struct{})
	connect := func(user string, before <-chan struct{}) *Bus {
		c := config("nats://" + s.Addr().String())
		c.Queue = queue
		c.NATSAccess = plan.NATSAccess{Username: user, Password: "p"}
		return New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), Options{Name: "EventBus a/b", Config: c, Instance: instance, Before: before})
	}
	before := connect("before", nil)
	defer before.Close()
	publish(t, before, "rotated", "e1")
	after := connect("after", closed)
	defer after.Close()
	for begin := time.Now(); time.Since(begin) < 600*time.Millisecond; time.Sleep(10 * time.Millisecond) { // which is as long as several attempts take
		if err := after.Ready(); err != nil && !errors.Is(err, bus.ErrConnecting) {
			t.Logf("Ready() = %v", err)
			return false
		}
	}
	_ = before.Close()
	close(closed)
	if err := after.Topic(bus.Topic{Name: "rotated"}).Handle(t.Context(), newEvent(t, "e2", "", nil)); err != nil || logs.Len() > 0 {
		t.Logf("Handle() = %v, logged %v", err, logs.All())
		return false
	}
	return true
}

// Where no bus of this process is about to be closed, it is another client that has the id.
func TestAnotherClientWithTheIDIsSaid(t *testing.T) {
	s := startBroker(t, "")
	c := config(s.url())
	c.Queue = false
	eventually(t, "the first is ready", isReady(connect(t, "same", c)))
	second := connect(t, "same", c)
	eventually(t, "the second says why", func() bool { return errors.Is(second.Ready(), errTaken) })
}
