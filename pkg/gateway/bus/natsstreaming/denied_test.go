package natsstreaming

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	natsd "github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccess"
	"github.com/openfunction/events/pkg/gateway/bus/internal/natsaccesstest"
	"github.com/openfunction/events/test/servers"
)

// restricted is a server whose user has some permissions, and a bus of that user.
type restricted struct {
	*natsd.Server
	options *natsd.Options
	bus     *Bus
	logs    *observer.ObservedLogs
}

func restrict(t *testing.T, publish, subscribe []string) *restricted {
	t.Helper()
	r := &restricted{options: &natsd.Options{Users: []*natsd.User{natsaccesstest.User(publish, subscribe)}}}
	r.Server = guarded(t, r.options)
	core, logs := observer.New(zap.InfoLevel)
	r.logs = logs
	c := config("nats://" + r.Addr().String())
	c.NATSAccess = natsaccesstest.Access
	r.bus = New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), Options{Name: "EventBus a/b", Config: c, Instance: instance()})
	t.Cleanup(func() { _ = r.bus.Close() })
	return r
}

// unavailable is what the bus says while something is not permitted to all of it.
func (r *restricted) unavailable(denied string) string {
	return "EventBus a/b is unavailable: connect to nats://" + r.Addr().String() + ": the server lets us in, but permits too little (" + denied + ` for the user "events"`
}

// says waits until what try returns is want, and wants it to be that for several tries of the bus.
func says(t *testing.T, want string, try func() error) {
	t.Helper()
	var err error
	eventually(t, want, func() bool { err = try(); return err != nil && strings.Contains(err.Error(), want) })
	natsaccesstest.StaysSame(t, err.Error(), try)
}

// documented returns the permissions that the documentation gives the user of the bus.
func documented(t *testing.T) (publish, subscribe []string) {
	t.Helper()
	publish, subscribe = natsaccesstest.Documented(t, "nats-streaming.conf")
	if diff := cmp.Diff(grants, natsaccess.Grants{Publish: publish, Subscribe: subscribe}); diff != "" {
		t.Errorf("docs differ (-want +got):\n%s", diff)
	}
	return publish, subscribe
}

// trip uses all that a bus does.
func (r *restricted) trip(t *testing.T) {
	t.Helper()
	in := startSubscription(t, r.bus, bus.Subscription{Name: "s", Topics: []string{"topic"}})
	eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
	publish(t, r.bus, "topic", "e1")
	in.wants(t, "e1")
	if err := in.stop(); err != nil {
		t.Error(err)
	}
	publish(t, r.bus, "topic", "e2")
	in = startSubscription(t, r.bus, bus.Subscription{Name: "s", Topics: []string{"topic"}})
	in.wants(t, "e2")
	if err := in.stop(); err != nil {
		t.Error(err)
	}
	if err := r.bus.Unsubscribe(t.Context(), bus.Subscription{Name: "s", Topics: []string{"topic"}}); err != nil {
		t.Error(err)
	}
	if err := r.bus.Close(); err != nil {
		t.Error(err)
	}
	said := slices.DeleteFunc(r.logs.All(), func(e observer.LoggedEntry) bool { return e.Message == "event bus connected" })
	natsaccesstest.NoRepeats(t, said)
	if connected, want := r.logs.Len()-len(said), 1+len(said); connected > want {
		t.Errorf("connected %d times, want no more than %d: %v", connected, want, r.logs.All())
	}
}

func TestDocumentedPermissionsAreEnough(t *testing.T) {
	t.Parallel()
	publish, subscribe := documented(t)
	r := restrict(t, publish, subscribe)
	r.trip(t)
	if n := r.logs.FilterLevelExact(zap.WarnLevel).Len(); n != 0 {
		t.Errorf("warnings: %v", r.logs.All())
	}
}

// What the bus cannot be without is said at once, all the time, and passes when it is permitted.
func TestWhatTheConnectionNeeds(t *testing.T) {
	t.Parallel()
	publish, subscribe := documented(t)
	var together sync.WaitGroup
	defer together.Wait()
	for _, tt := range []struct {
		name               string
		publish, subscribe []string
		want               string
	}{
		{"to connect", natsaccesstest.Without(publish, "_STAN.discover.>"), subscribe,
			`Permissions Violation for Publish to "_STAN.discover.stan"): permit to publish to "_STAN.discover.>"`},
		{"signs of life", append(natsaccesstest.Without(publish, "_STAN.discover.>"), "_STAN.discover.stan"), subscribe,
			`Permissions Violation for Publish to "_STAN.discover.stan.pings"): permit to publish to "_STAN.discover.>"`},
		{"to acknowledge", natsaccesstest.Without(publish, "_INBOX.>"), subscribe,
			`Permissions Violation for Publish to "_INBOX.>"): permit to publish to "_INBOX.>"`},
		{"to receive answers", publish, natsaccesstest.Without(subscribe, "_INBOX.>"),
			`Permissions Violation for Subscription to "_INBOX.>"): permit to subscribe to "_INBOX.>"`},
		{"to receive acknowledgements", publish, natsaccesstest.Without(subscribe, "_STAN.acks.*"),
			`Permissions Violation for Subscription to "_STAN.acks.>"): permit to subscribe to "_STAN.acks.*"`},
	} {
		together.Go(func() {
			t.Run(tt.name, func(t *testing.T) {
				r := restrict(t, tt.publish, tt.subscribe)
				says(t, r.unavailable(tt.want), r.bus.Ready)
				natsaccesstest.Permit(t, r.Server, r.options, publish, subscribe)
				r.trip(t)
			})
		})
	}
}

func TestPermissionsThatAreTakenAway(t *testing.T) {
	t.Parallel()
	permitted, subscribe := documented(t)
	var together sync.WaitGroup
	defer together.Wait()
	run := func(name string, f func(*testing.T, *restricted)) {
		together.Go(func() {
			t.Run(name, func(t *testing.T) { f(t, restrict(t, permitted, subscribe)) })
		})
	}
	run("to close a subscription", func(t *testing.T, r *restricted) {
		in := startSubscription(t, r.bus, bus.Subscription{Name: "s", Topics: []string{"topic"}})
		eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
		natsaccesstest.Permit(t, r.Server, r.options, natsaccesstest.Without(permitted, "_STAN.subclose.>"), subscribe)
		if err := in.stop(); err != nil {
			t.Error(err)
		}
		says(t, `): permit to publish to "_STAN.subclose.>" for the user "events"`, r.bus.Ready)
		natsaccesstest.Permit(t, r.Server, r.options, permitted, subscribe)
		r.trip(t)
	})
	run("to remove a subscription", func(t *testing.T, r *restricted) {
		in := startSubscription(t, r.bus, bus.Subscription{Name: "other", Topics: []string{"topic"}})
		eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
		natsaccesstest.Permit(t, r.Server, r.options, natsaccesstest.Without(permitted, "_STAN.unsub.>"), subscribe)
		s := bus.Subscription{Name: "s", Topics: []string{"topic"}}
		err := r.bus.Unsubscribe(t.Context(), s)
		if want := `): permit to publish to "_STAN.unsub.>" for the user "events"`; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Unsubscribe = %v, want %s", err, want)
		}
		publish(t, r.bus, "topic", "e")
		in.wants(t, "e")
		if n := r.logs.FilterMessage("event bus connected").Len(); n != 1 {
			t.Errorf("connected %d times, want once: the rest goes on", n)
		}
		natsaccesstest.Permit(t, r.Server, r.options, permitted, subscribe)
		if err := r.bus.Unsubscribe(t.Context(), s); err != nil {
			t.Error(err)
		}
	})
	run("to acknowledge", func(t *testing.T, r *restricted) {
		in := startSubscription(t, r.bus, bus.Subscription{Name: "s", Topics: []string{"topic"}})
		eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
		natsaccesstest.Permit(t, r.Server, r.options, natsaccesstest.Without(permitted, "_INBOX.>"), subscribe)
		publish(t, r.bus, "topic", "e1")
		says(t, r.unavailable(`Permissions Violation for Publish to "_INBOX.>"): permit to publish to "_INBOX.>"`), r.bus.Ready)
		natsaccesstest.Permit(t, r.Server, r.options, permitted, subscribe)
		publish(t, r.bus, "topic", "e2")
		in.wants(t, "e1", "e2")
	})
	run("to receive answers", func(t *testing.T, r *restricted) {
		in := startSubscription(t, r.bus, bus.Subscription{Name: "s", Topics: []string{"topic"}})
		eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
		natsaccesstest.Permit(t, r.Server, r.options, permitted, natsaccesstest.Without(subscribe, "_INBOX.>"))
		says(t, r.unavailable(`Permissions Violation for Subscription to "_INBOX.>"): permit to subscribe to "_INBOX.>"`), r.bus.Ready)
		natsaccesstest.Permit(t, r.Server, r.options, permitted, subscribe)
		publish(t, r.bus, "topic", "e")
		in.wants(t, "e")
	})
	run("to talk to each other", func(t *testing.T, r *restricted) {
		natsaccesstest.Permit(t, r.Server, r.options, natsaccesstest.Without(permitted, "_OPENFUNCTION.claim.*"), natsaccesstest.Without(subscribe, "_OPENFUNCTION.claim.*"))
		for range 2 {
			in := startSubscription(t, r.bus, bus.Subscription{Name: "s", Topics: []string{"topic"}})
			eventually(t, "the subscription is ready", func() bool { return in.ready() == nil })
			if err := in.stop(); err != nil {
				t.Error(err)
			}
		}
		if n := r.logs.FilterLevelExact(zap.WarnLevel).Len(); n != 1 {
			t.Errorf("%d warnings, want 1: %v", n, r.logs.All())
		}
	})
	run("to close", func(t *testing.T, r *restricted) {
		eventually(t, "the bus is ready", isReady(r.bus))
		natsaccesstest.Permit(t, r.Server, r.options, natsaccesstest.Without(permitted, "_STAN.close.>"), subscribe)
		_ = r.bus.Close()
		warnings := r.logs.FilterLevelExact(zap.WarnLevel).All()
		if len(warnings) != 1 || !strings.Contains(fmt.Sprint(warnings[0].ContextMap()["error"]), `permit to publish to "_STAN.close.>"`) {
			t.Errorf("warnings %v, want one that says what to permit", warnings)
		}
	})
}

func TestWhatIsNoServerIsSaid(t *testing.T) {
	t.Parallel()
	stranger := servers.NewStranger(t, "127.0.0.1:0", servers.Greet("220 mail.example.com ESMTP\r\n"))
	core, logs := observer.New(zap.InfoLevel)
	b := New(logging.WithLogger(context.Background(), zap.New(core).Sugar()), Options{Name: "EventBus a/b", Config: config("nats://" + stranger.Addr()), Instance: instance()})
	t.Cleanup(func() { _ = b.Close() })
	says(t, "nats "+stranger.Addr()+": what answers there is not a NATS server: correct the host and the port in natsURL", b.Ready)
	if n := logs.Len(); n != 1 {
		t.Errorf("%d log lines, want 1: %v", n, logs.All())
	}
}
