//go:build e2e

package jetstream_test

import (
	"context"
	"testing"
	"time"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

func processFixture(c plan.JetStream) bustest.Fixture {
	c.AckWait = ackWait
	return bustest.Fixture{
		New: func(testing.TB) bus.Bus {
			return jetstream.New(context.Background(), jetstream.Options{Name: "EventBus test/test", Config: c})
		},
		AckWait: ackWait,
		PublishRaw: func(t testing.TB, topic string, data []byte) {
			nc := connect(t, c)
			if _, err := nc.Request(topic, data, 5*time.Second); err != nil {
				t.Fatalf("publish to %s: %v", topic, err)
			}
		},
		Dedup: true,
	}
}

// twoUsers is the directive of a server that has two users, and as what one of them shows.
const twoUsers = "authorization { users: [ { user: events, password: events-s3cret }, { user: other, password: other-s3cret } ] }"

func as(user string, a *servers.Authority) plan.JetStream {
	return plan.JetStream{NATSAccess: plan.NATSAccess{Username: user, Password: user + "-s3cret", TLS: &plan.TLS{CACerts: a.Cert}}}
}

// A real server that is killed with SIGKILL. It has two users.
func TestE2EConformance(t *testing.T) {
	t.Parallel()
	authority := servers.NewAuthority(t)
	s := servers.JetStreamTLS(t, authority, twoUsers)
	right, other := as("events", authority), as("other", authority)
	right.URL, other.URL = s.URL(), s.URL()
	f := processFixture(right)
	f.Refusals, f.Other = refusals(t, right), processFixture(other).New
	f.Stop, f.Start, f.Outage = func(testing.TB) { s.Kill() }, func(testing.TB) { s.Start() }, 20*time.Second
	bustest.Run(t, f)
}
