package keda_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	stand "github.com/nats-io/nats-streaming-server/server"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/keda"
	. "github.com/openfunction/events/pkg/reconciler/testing"
	"github.com/openfunction/events/test/servers"
)

const watched = `
kind: EventBus
metadata: {name: default}
spec:
  natsStreaming:
    natsURL: nats://%s
    natsStreamingClusterID: stan
    durableSubscriptionName: lasting
    scaleOption: {natsServerMonitoringEndpoint: %q, lagThreshold: "10"}
---
kind: EventSource
metadata: {name: es}
spec: {eventBus: default, cron: {a: {schedule: "@yearly"}, b: {schedule: "@yearly"}}}
---
kind: Trigger
metadata: {name: t}
spec:
  eventBus: default
  inputs: {a: {eventSource: es, event: a}, b: {eventSource: es, event: b}}
  subscribers:
  - {condition: a || b, topic: either}
  - {condition: b, topic: one}
`

// TestKEDAFindsTheSubscriptions of a gateway that runs the Trigger: what a ScaledObject names must be on the server, or nothing is scaled.
func TestKEDAFindsTheSubscriptions(t *testing.T) {
	address, monitoring := startNATSStreaming(t)
	o, buses := Objects(t, fmt.Sprintf(watched, address, monitoring))
	p := compile(o)
	run(t, &plan.Plan{Buses: p.Buses, Subscribers: p.Subscribers})
	scaled, _ := keda.Trigger(o.Triggers[0], buses["default"], p, "trigger-t")
	stans, _, err := unstructured.NestedSlice(scaled.Object, "spec", "triggers")
	if err != nil || len(stans) != 3 {
		t.Fatalf("got %d triggers (%v), want one for each subscriber and input: 3", len(stans), err)
	}
	for _, s := range stans {
		metadata, _, err := unstructured.NestedStringMap(s.(map[string]any), "metadata")
		if err != nil {
			t.Fatal(err)
		}
		group := metadata["durableName"] + ":" + metadata["queueGroup"] // as KEDA puts it together
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			groups := queueGroups(t, metadata["natsServerMonitoringEndpoint"], metadata["subject"])
			if groups[group] {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the server has no %s on %s; it has %v", group, metadata["subject"], groups)
			}
		}
	}
}

// startNATSStreaming returns where a server is, and its monitoring.
func startNATSStreaming(t *testing.T) (address, monitoring string) {
	t.Helper()
	o := stand.GetDefaultOptions()
	o.ID = "stan"
	port, monitor := servers.FreePort(t), servers.FreePort(t)
	server, err := stand.RunServerWithOpts(o, &natsd.Options{
		Host: "127.0.0.1", Port: port, HTTPHost: "127.0.0.1", HTTPPort: monitor, NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	return fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.1:%d", monitor)
}

// run runs the Triggers of p in a gateway until the test ends.
func run(t *testing.T, p *plan.Plan) {
	t.Helper()
	ctx, cancel := context.WithCancel(logging.WithLogger(context.Background(), zap.NewNop().Sugar()))
	g, err := gateway.New(ctx, gateway.Options{Instance: "test", Grace: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if err := g.Apply(p); err != nil {
		t.Fatal(err)
	}
}

// queueGroups returns those that subscribe to a channel.
func queueGroups(t *testing.T, monitoring, channel string) map[string]bool {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + monitoring + "/streaming/channelsz?subs=1&channel=" + url.QueryEscape(channel))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil // nobody has used it yet
	}
	var c struct {
		Subscriptions []struct {
			QueueName string `json:"queue_name"`
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil {
		t.Fatal(err)
	}
	groups := map[string]bool{}
	for _, s := range c.Subscriptions {
		groups[s.QueueName] = true
	}
	return groups
}
