package jetstream_test

import (
	"context"
	"net"
	"strconv"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccesstest"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

func observed(t *testing.T, c plan.JetStream) (*jetstream.Bus, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.WarnLevel)
	b := jetstream.New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), jetstream.Options{Name: "EventBus a/b", Config: c})
	t.Cleanup(func() { _ = b.Close() })
	return b, logs
}

func TestWhatIsNoServerIsSaid(t *testing.T) {
	t.Parallel()
	port := servers.FreePort(t)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	stranger := servers.NewStranger(t, address, servers.Greet("220 mail.example.com ESMTP\r\n"))
	b, logs := observed(t, plan.JetStream{URL: "nats://" + address})
	want := "EventBus a/b is unavailable: nats " + address + ": what answers there is not a NATS server: correct the host and the port in url"
	eventually(t, want, func() bool { err := b.Ready(); return err != nil && err.Error() == want })
	natsaccesstest.StaysSame(t, want, b.Ready)
	if n := logs.Len(); n != 1 || logs.All()[0].ContextMap()["error"] != want[len("EventBus a/b is unavailable: "):] {
		t.Errorf("%d log lines, want 1, with the reason: %v", n, logs.All())
	}
	stranger.Close()
	guarded(t, &server.Options{Port: port})
	publish(t, b.Topic(bus.Topic{Name: "metrics"}), newEvent(t, "e", nil))
}

// Of several servers, those that are away say nothing about why the others do not let us in.
func TestARefusalIsSaidBeforeServersThatAreAway(t *testing.T) {
	t.Parallel()
	o := &server.Options{Username: "events", Password: "right"}
	s := guarded(t, o)
	b, logs := observed(t, plan.JetStream{
		URL:        "nats://" + servers.FreeAddress(t) + ",nats://" + s.Addr().String() + ",nats://" + servers.FreeAddress(t),
		NATSAccess: plan.NATSAccess{Username: "events", Password: "hush"},
	})
	want := "EventBus a/b is unavailable: nats " + s.Addr().String() + `: the server refuses the user "events" or the password (Authorization Violation): correct username and the value of passwordFrom`
	eventually(t, want, func() bool { err := b.Ready(); return err != nil && err.Error() == want })
	natsaccesstest.StaysSame(t, want, b.Ready)
	if n := logs.Len(); n != 1 {
		t.Errorf("%d log lines, want 1: %v", n, logs.All())
	}
	changed := o.Clone()
	changed.Password = "hush"
	if err := s.ReloadOptions(changed); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bus is ready", func() bool { return b.Ready() == nil })
}
