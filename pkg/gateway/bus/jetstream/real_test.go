//go:build e2e

package jetstream_test

import (
	"context"
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
	c := servers.JetStreamCluster(t)
	config := plan.JetStream{URL: c.URL(), Replicas: 3, AckWait: ackWait}
	t.Run("conformance", func(t *testing.T) { bustest.Run(t, processFixture(config)) })
	t.Run("each server in turn is killed under load and nothing is lost", func(t *testing.T) { oneAfterTheOther(t, c, config) })
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
