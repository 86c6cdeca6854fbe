package v1alpha1

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"knative.dev/pkg/apis"
)

const (
	streamingBus = `{natsStreaming: {natsURL: "nats://n:4222", natsStreamingClusterID: stan}}`
	moved        = `spec: cannot change from natsStreaming to jetStream, since the events that wait on the one would never reach the other: create a new bus and let its users name that one`
)

func TestUpdate(t *testing.T) {
	for _, tt := range []struct {
		name, kind, from, to string
		want                 []string
	}{
		{"a bus keeps its kind of backend", "EventBus", streamingBus, `{jetStream: {url: "nats://n:4222"}}`, []string{moved}},
		{"a cluster bus keeps its kind of backend", "ClusterEventBus", streamingBus, `{jetStream: {url: "nats://n:4222"}}`, []string{moved}},
		{"a bus may move to another server", "EventBus", streamingBus, `{natsStreaming: {natsURL: "nats://m:4222", natsStreamingClusterID: stan}}`, nil},
		{"a bus that was wrong may be mended", "EventBus", `{}`, `{embedded: {}}`, nil},
		{"a bus that is wrong and unchanged may get a finalizer", "EventBus", `{}`, `{}`, nil},
		{"an EventSource that is wrong and unchanged may get a finalizer", "EventSource", `{cron: {x: null}}`, `{cron: {x: null}}`, nil},
		{
			"an EventSource that becomes wrong is refused", "EventSource", `{http: {x: {}}}`, `{http: {x: null}}`,
			[]string{"spec.http[x]: is empty: write its fields below the name, or {} when all have defaults"},
		},
		{
			"an EventSource whose sink has a user may get a finalizer", "EventSource",
			`{sink: {uri: "http://u:p@a"}, cron: {x: null}}`, `{sink: {uri: "http://u:p@a"}, cron: {x: null}}`, nil,
		},
		{"an embedded bus may sync differently", "EventBus", `{embedded: {}}`, `{embedded: {replicas: 1, syncInterval: always, maxBytes: 1000}}`, nil},
		{
			"the servers of an embedded bus stay as they are", "EventBus", `{embedded: {}}`, `{embedded: {replicas: 3, storage: 2Gi, storageClassName: fast}}`,
			[]string{
				"spec.embedded.replicas: cannot be changed: create a new bus and let its users name that one",
				"spec.embedded.storage: cannot be changed, since the volumes are there: create a new bus and let its users name that one",
				"spec.embedded.storageClassName: cannot be changed, since the volumes are there: create a new bus and let its users name that one",
			},
		},
		{
			"a Trigger stays on its bus", "Trigger", `{inputs: {a: {eventSource: e, event: x}}, subscribers: [{condition: a, topic: t}]}`,
			`{eventBus: b, inputs: {a: {eventSource: e, event: x}}, subscribers: [{condition: a, topic: t}]}`,
			[]string{`spec.eventBus: cannot be changed from "default": what waits on that bus would be lost; delete the Trigger and create it anew if it may be`},
		},
		{"an EventSource without a sink may move to another bus", "EventSource", `{eventBus: a, http: {x: {}}}`, `{eventBus: b, http: {y: {}}}`, nil},
		{
			"an EventSource with a sink stays on its bus", "EventSource", `{eventBus: a, sink: {uri: "http://s"}, http: {x: {}}}`, `{eventBus: b, sink: {uri: "http://s"}, http: {x: {}}}`,
			[]string{`spec.eventBus: cannot be changed from "a": what waits on that bus for the sink would be lost; delete the EventSource and create it anew if it may be`},
		},
		{
			"it does not leave it either", "EventSource", `{eventBus: a, sink: {uri: "http://s"}, http: {x: {}}}`, `{sink: {uri: "http://s"}, http: {x: {}}}`,
			[]string{`spec.eventBus: cannot be changed from "a": what waits on that bus for the sink would be lost; delete the EventSource and create it anew if it may be`},
		},
		{"an EventSource that has only a sink may get a bus", "EventSource", `{sink: {uri: "http://s"}, http: {x: {}}}`, `{eventBus: b, sink: {uri: "http://s"}, http: {x: {}}}`, nil},
		{"a Trigger that is wrong and unchanged may get a finalizer", "Trigger", `{inputs: {}, subscribers: []}`, `{inputs: {}, subscribers: []}`, nil},
		{
			"a Trigger that is wrong may not become wrong in another way", "Trigger", `{inputs: {}, subscribers: []}`, `{inputs: {a: {eventSource: e, event: x}}, subscribers: []}`,
			[]string{"spec.subscribers: is empty: say who gets the events, with a condition and a sink or topic"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			document := func(spec string) string { return "{kind: " + tt.kind + ", metadata: {name: x}, spec: " + spec + "}" }
			old, o := decode(t, document(tt.from)), decode(t, document(tt.to))

			// The old object is as it was stored, perhaps by a version with fewer defaults.
			ctx := apis.WithinUpdate(context.Background(), old)
			o.SetDefaults(ctx)
			var got []string
			for _, p := range Flatten(o.Validate(ctx)) {
				got = append(got, p.String())
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("update (-got +want):\n%s", diff)
			}
			if err := o.Validate(apis.WithinSubResourceUpdate(context.Background(), old, "status")); err != nil {
				t.Errorf("status update: %v, want nil", err)
			}
		})
	}
}
