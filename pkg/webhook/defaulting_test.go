package webhook

import (
	"encoding/json"
	"fmt"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
)

func TestDefaultsOfTheCluster(t *testing.T) {
	const bare, ours = `{http: {x: {}}}`, `{eventBus: ours, http: {x: {maxBodyBytes: 1048576}}}`
	for _, tt := range []struct{ name, old, spec, want string }{
		{"a new object gets them", "", bare, ours},
		{"what a user wrote stays", "", `{eventBus: mine, http: {x: {maxBodyBytes: 1}}}`, `{eventBus: mine, http: {x: {maxBodyBytes: 1}}}`},
		{"an object that changes gets them", `{http: {y: {}}}`, bare, ours},
		{"an object that stays as it is keeps what it has", bare, bare, bare},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, "event-bus", "ours")
			document := func(spec string) []byte {
				return toJSON(t, fmt.Sprintf("{apiVersion: events.openfunction.io/v1alpha1, kind: EventSource, metadata: {name: x}, spec: %s}", spec))
			}
			var old []byte
			if tt.old != "" {
				old = document(tt.old)
			}
			got, response := s.admit(t, old, document(tt.spec), "")
			if want := document(tt.want); !response.Allowed || !jsonpatch.Equal(spec(t, got), spec(t, want)) {
				t.Errorf("got %s (%v), want %s", got, response.Result, want)
			}
		})
	}
}

// spec is the spec of an object, as JSON.
func spec(t *testing.T, o []byte) []byte {
	t.Helper()
	var fields struct{ Spec json.RawMessage }
	if err := json.Unmarshal(o, &fields); err != nil {
		t.Fatal(err)
	}
	return fields.Spec
}

// TestListsStayAsTheyWereWritten wants kubectl apply of the same file to find the same list.
func TestListsStayAsTheyWereWritten(t *testing.T) {
	const subscribers = `[{condition: a, sink: {ref: {apiVersion: v1, kind: Service, name: s}}, deadLetterSink: {ref: {apiVersion: v1, kind: Service, name: s}}}]`
	trigger := toJSON(t, `{apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, metadata: {name: x, namespace: shop}, spec: {
		inputs: {a: {eventSource: e, event: a}}, subscribers: `+subscribers+`}}`)
	got, response := newServer(t).admit(t, nil, trigger, "")
	want := toJSON(t, `{eventBus: default, window: 60s, inputs: {a: {eventSource: e, event: a, namespace: shop}}, subscribers: `+subscribers+`}`)
	if !response.Allowed || !jsonpatch.Equal(spec(t, got), want) {
		t.Errorf("got %s (%v), want %s", spec(t, got), response.Result, want)
	}
}
