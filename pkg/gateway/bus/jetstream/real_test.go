//go:build e2e

package jetstream_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/bustest"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

func TestE2ECluster(t *testing.T) {
	t.Parallel()
	authority := servers.NewAuthority(t)
	c := servers.JetStreamCluster(t, authority, twoUsers)
	config := as("events", authority)
	config.URL, config.Replicas, config.AckWait = c.URL(), 3, ackWait
	t.Run("conformance", func(t *testing.T) {
		f, other := processFixture(config), config
		other.NATSAccess = as("other", authority).NATSAccess
		f.Refusals, f.Other = refusals(t, config), processFixture(other).New
		bustest.Run(t, f)
	})
	t.Run("each server in turn is killed under load and nothing is lost", func(t *testing.T) { oneAfterTheOther(t, c, config) })
	t.Run("a server that lost its disk gets all back before another one is killed", func(t *testing.T) { wiped(t, c, config) })
	t.Run("all servers are killed under load, come back, and nothing is lost", func(t *testing.T) {
		f := processFixture(config)
		f.Outage = 20 * time.Second
		f.Stop = func(testing.TB) {
			for _, node := range c.Nodes {
				node.Kill()
			}
		}
		f.Start = func(testing.TB) {
			for _, node := range c.Nodes {
				node.Start()
			}
			c.Await()
		}
		bustest.RunOutage(t, f)
	})
}

func oneAfterTheOther(t *testing.T, c *servers.JetStreamClusterServers, config plan.JetStream) {
	b := open(t, jetstream.Options{Name: "EventBus a/b", Config: config})
	l := newLoad(t)
	l.attach(b)
	l.begin(b, 500)
	for _, node := range c.Nodes { // one of them is whom we are connected to, and one leads the stream
		l.more(500)
		node.Kill()
		l.more(500)
		node.Start()
		c.Await()
	}
	l.more(500)
	l.wantAll()
}

// wiped lets a server start again without its data, while events wait for a subscriber that is away, and then kills each of the others.
func wiped(t *testing.T, c *servers.JetStreamClusterServers, config plan.JetStream) {
	const events, name = 3000, "openfunction.test.es.wiped"
	b := open(t, jetstream.Options{Name: "EventBus a/b", Config: config})
	topic := b.Topic(bus.Topic{Name: name})
	sub := bus.Subscription{Name: "wiped", Topics: []string{name}}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan error, 100), make(chan error, 1)
	sub.Ready = func(err error) { ready <- err }
	go func() { ended <- b.Subscribe(ctx, sub, func(m *bus.Message) { m.Done(nil) }) }()
	for <-ready != nil { // servers may still be choosing who leads
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	publishing := func(from, to int) {
		var all sync.WaitGroup
		for worker := range publishers {
			all.Go(func() {
				for i := from + worker; i < to; i += publishers {
					publish(t, topic, newEvent(t, fmt.Sprint("e", i), []byte("x")))
				}
			})
		}
		all.Wait()
	}
	publishing(0, events/3)
	lost := c.Nodes[0]
	lost.Kill()
	publishing(events/3, 2*events/3)
	lost.Wipe()
	lost.Start()
	publishing(2*events/3, events)
	c.Await()
	for _, other := range c.Nodes[1:] { // either may lead; the one that was wiped is half of the majority
		other.Kill()
		publishing(events, events+1)
		if other == c.Nodes[1] {
			other.Start()
			c.Await()
		}
	}
	r, _ := begin(t, b, bus.Subscription{Name: "wiped", Topics: []string{name}}, nil)
	for i := range events + 1 {
		id := fmt.Sprint("e", i)
		eventually(t, id, func() bool { return r.has(id) })
	}
	c.Nodes[2].Start()
	c.Await()
	t.Logf("%d events, none lost, %d received again", events+1, len(r.got())-events-1)
}

// A client of NATS reads a subscriber's topic as the CloudEvents binding for NATS has it, in binary mode.
func TestE2EPlainClientReadsATopic(t *testing.T) {
	s := servers.JetStream(t)
	b := open(t, jetstream.Options{Name: "EventBus a/b", Config: plan.JetStream{URL: s.URL()}})
	data := []byte(`{"cpu": 1.50}`)
	publish(t, b.Topic(bus.Topic{Name: "metrics", Origin: "subscriber"}), newEvent(t, "e1", data))

	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := js.StreamNameBySubject(ctx, "metrics")
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.CreateConsumer(ctx, stream, natsjs.ConsumerConfig{FilterSubject: "metrics"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := consumer.Next(natsjs.FetchContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	header := m.Headers()
	delete(header, natsjs.MsgIDHeader)
	want := nats.Header{
		"ce-specversion": {"1.0"}, "ce-id": {"e1"}, "ce-source": {"/test"}, "ce-type": {"test"}, "content-type": {"application/octet-stream"},
	}
	if diff := cmp.Diff(want, header); diff != "" {
		t.Errorf("headers differ (-want +got):\n%s", diff)
	}
	if got := string(m.Data()); got != string(data) {
		t.Errorf("data = %q, want %q: as it was published", got, data)
	}
}
