package v1alpha1

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// TestDefaults compares the spec after defaulting with a whole spec.
func TestDefaults(t *testing.T) {
	for _, tt := range []struct{ name, kind, namespace, spec, want string }{
		{
			"an EventSource with neither bus nor sink uses the default bus",
			"EventSource", "shop", `{http: {order: {}}}`,
			`{eventBus: default, http: {order: {maxBodyBytes: 1048576}}}`,
		},
		{
			"an EventSource with a sink has no bus, and references lead to its own namespace",
			"EventSource", "shop", `{sink: {ref: {apiVersion: v1, kind: Service, name: a}}, deadLetterSink: {ref: {apiVersion: v1, kind: Service, name: b, namespace: ops}}}`,
			`{sink: {ref: {apiVersion: v1, kind: Service, name: a, namespace: shop}}, deadLetterSink: {ref: {apiVersion: v1, kind: Service, name: b, namespace: ops}}}`,
		},
		{
			"an object without a namespace is in default",
			"EventSource", "", `{sink: {ref: {apiVersion: v1, kind: Service, name: a}}}`,
			`{sink: {ref: {apiVersion: v1, kind: Service, name: a, namespace: default}}}`,
		},
		{
			"events are filled in, the consumer group is not",
			"EventSource", "shop", `{eventBus: b, http: {order: {raw: true}}, kafka: {paid: {brokers: "k:9092", authRequired: true}}, cron: {tick: {schedule: "@daily"}}, mqtt: {m: {url: "tcp://m:1", topic: t}}}`,
			`{eventBus: b, http: {order: {raw: true, type: io.openfunction.events.http, maxBodyBytes: 1048576}},
			  kafka: {paid: {brokers: "k:9092", topic: paid, initialOffset: newest, authRequired: true, saslMechanism: PLAIN}},
			  cron: {tick: {schedule: "@daily", timeZone: UTC, contentType: application/json}}, mqtt: {m: {url: "tcp://m:1", topic: t, qos: 1}}}`,
		},
		{
			"a schedule with a time zone of its own gets no other",
			"EventSource", "shop", `{eventBus: b, cron: {tick: {schedule: " TZ=Asia/Tokyo @daily", contentType: text/plain}}}`,
			`{eventBus: b, cron: {tick: {schedule: " TZ=Asia/Tokyo @daily", contentType: text/plain}}}`,
		},
		{
			"what a user wrote stays",
			"EventSource", "shop", `{eventBus: b, http: {order: {maxBodyBytes: 1}}, kafka: {paid: {brokers: "k:9092", topic: t, initialOffset: oldest, authRequired: false}}, mqtt: {m: {url: "tcp://m:1", topic: t, qos: 0}}}`,
			`{eventBus: b, http: {order: {maxBodyBytes: 1}}, kafka: {paid: {brokers: "k:9092", topic: t, initialOffset: oldest, authRequired: false}}, mqtt: {m: {url: "tcp://m:1", topic: t, qos: 0}}}`,
		},
		{
			"a Trigger",
			"Trigger", "shop", `{inputs: {a: {eventSource: e, event: x}, b: {eventSource: e, event: y, namespace: ops}, c: null}, subscribers: [{condition: a, sink: {ref: {apiVersion: v1, kind: Service, name: s}}}, {condition: b, topic: t, match: Latest, payload: All}]}`,
			`{eventBus: default, window: 60s, inputs: {a: {eventSource: e, event: x, namespace: shop}, b: {eventSource: e, event: y, namespace: ops}, c: null},
			  subscribers: [{condition: a, sink: {ref: {apiVersion: v1, kind: Service, name: s, namespace: shop}}, match: Once, payload: Event}, {condition: b, topic: t, match: Latest, payload: All}]}`,
		},
		{
			"a NATS Streaming bus",
			"EventBus", "shop", `{natsStreaming: {natsURL: "nats://n:4222", natsStreamingClusterID: stan}}`,
			`{natsStreaming: {natsURL: "nats://n:4222", natsStreamingClusterID: stan, subscriptionType: queue, durableSubscriptionName: openfunction, ackWaitTime: 30s, maxInFlight: 256}}`,
		},
		{
			"a JetStream bus of the cluster",
			"ClusterEventBus", "", `{jetStream: {url: "nats://n:4222"}}`,
			`{jetStream: {url: "nats://n:4222", replicas: 1, ackWait: PT10S, maxInFlight: 256}}`,
		},
		{
			"a Kafka bus",
			"EventBus", "shop", `{kafka: {brokers: "k:9092"}}`,
			`{kafka: {brokers: "k:9092", partitions: 1, replicationFactor: 1, retention: P7D, maxInFlight: 256}}`,
		},
		{"an embedded bus", "EventBus", "shop", `{embedded: {}}`, `{embedded: {syncInterval: 1s, replicas: 1, storage: 1Gi}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			document := func(spec string) string {
				return "{kind: " + tt.kind + ", metadata: {name: x, namespace: \"" + tt.namespace + "\"}, spec: " + strings.ReplaceAll(spec, "\t", " ") + "}"
			}
			got, want := decode(t, document(tt.spec)), decode(t, document(tt.want))
			got.SetDefaults(context.Background())
			gotText, _ := yaml.Marshal(got)
			wantText, _ := yaml.Marshal(want)
			if diff := cmp.Diff(string(gotText), string(wantText)); diff != "" {
				t.Errorf("defaults (-got +want):\n%s", diff)
			}
		})
	}
}
