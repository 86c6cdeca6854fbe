package webhook

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
)

const moved = "spec: cannot change from embedded to jetStream, since the events that wait on the one would never reach the other: create a new bus and let its users name that one"

func TestUpdate(t *testing.T) {
	for _, tt := range []struct {
		name, kind, from, to, want string
	}{
		{"a bus keeps its kind of backend", "EventBus", `{embedded: {}}`, `{jetStream: {url: "nats://n:4222"}}`, moved},
		{"a cluster bus keeps its kind of backend", "ClusterEventBus", `{embedded: {}}`, `{jetStream: {url: "nats://n:4222"}}`, moved},
		{"a bus may change its settings", "EventBus", `{embedded: {}}`, `{embedded: {syncInterval: always}}`, ""},
		{"what is wrong and stays as it is may get a label", "EventSource", `{cron: {x: null}}`, `{cron: {x: null}}`, ""},
		{"what cannot even be read and stays as it is may get a label", "EventSource", `{sink: {uri: "http://["}}`, `{sink: {uri: "http://["}}`, ""},
		{"what could not be read may be mended", "EventSource", `{sink: {uri: "http://["}, http: {x: {}}}`, `{sink: {uri: "http://s"}, http: {x: {}}}`, ""},
		{
			"what becomes wrong is refused", "EventSource", `{http: {x: {}}}`, `{http: {x: null}}`,
			"spec.http[x]: is empty: write its fields below the name, or {} when all have defaults",
		},
		{
			"who reads an event stays", "EventSource", `{mqtt: {x: {url: "tcp://m", topic: t}}}`, `{mqtt: {x: {url: "tcp://m", topic: t, consumerID: two}}}`,
			`spec.mqtt[x].consumerID: cannot be changed from "openfunction.default.x.mqtt.x": what waits under that client id would not be read; ` +
				`add another event with the new value, and remove this one once it has caught up, or first if what waits may be lost`,
		},
		{
			"what becomes unreadable is refused", "EventSource", `{http: {x: {}}}`, `{sink: {uri: "http://["}, http: {x: {}}}`,
			`spec: cannot be read: parse "http://[": missing ']' in host`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			document := func(spec string) []byte {
				return toJSON(t, fmt.Sprintf("{apiVersion: events.openfunction.io/v1alpha1, kind: %s, metadata: {name: x}, spec: %s}", tt.kind, spec))
			}
			_, response := s.admit(t, document(tt.from), document(tt.to), "")
			if response.Allowed != (tt.want == "") || !response.Allowed && response.Result.Message != tt.want {
				t.Errorf("update: allowed %t with %v, want %q", response.Allowed, response.Result, tt.want)
			}
			before := document(tt.to)
			after, response := s.admit(t, document(tt.from), before, "status")
			if !response.Allowed || string(after) != string(before) {
				t.Errorf("status update: %v with %s, want it allowed and unchanged", response, after)
			}
		})
	}
}

func TestUpdateThatLeavesEventsIsWarnedOf(t *testing.T) {
	s := newServer(t)
	document := func(events string) []byte {
		return toJSON(t, "{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: x, namespace: ns}, spec: {http: {y: {}}, redis: "+events+"}}")
	}
	_, response := s.admit(t, document(`{a: {redisHost: "r:6379"}, b: {redisHost: "r:6379", list: b}}`), document(`{}`), "")
	want := []string{`spec.redis[a]: is removed, and what still waits for the consumer group "openfunction.ns.x.redis.a" in stream a at r:6379 stays there unread, unless another event reads it under that name`}
	if diff := cmp.Diff(response.Warnings, want); diff != "" || !response.Allowed {
		t.Errorf("update: allowed %t, warnings (-got +want):\n%s", response.Allowed, diff)
	}
}

func TestOtherRequests(t *testing.T) {
	s := newServer(t)
	request := newRequest(t, []byte(`{"kind": "EventSource", "metadata": {"name": "x"}, "spec": {}}`))
	for operation, want := range map[admissionv1.Operation]bool{admissionv1.Create: false, admissionv1.Delete: true, admissionv1.Connect: true} {
		request.Operation = operation
		if got := s.validation.Admit(s.ctx, request); got.Allowed != want {
			t.Errorf("%s: allowed %t, want %t", operation, got.Allowed, want)
		}
	}
	request.Operation, request.Kind.Kind = admissionv1.Create, "Sink"
	if got := s.validation.Admit(s.ctx, request); got.Allowed || got.Result.Message != "kind: Sink is not known to this version" {
		t.Errorf("a kind that is not ours: %v, want it refused", got)
	}
}

// TestWrongTypesAreLeftToTheSchema wants defaulting to keep quiet about them, since the API server names the field only after it.
func TestWrongTypesAreLeftToTheSchema(t *testing.T) {
	s := newServer(t)
	o := toJSON(t, `{kind: EventSource, metadata: {name: x}, spec: {kafka: {a: {brokers: "b:1", maxMessageBytes: many}}}}`)
	if got := s.defaulting.Admit(s.ctx, newRequest(t, o)); !got.Allowed || got.Patch != nil {
		t.Errorf("defaulting: %v, want it allowed without a patch", got)
	}
}
