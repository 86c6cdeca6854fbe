package webhook

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
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

// TestASecondApplyChangesNothing wants kubectl apply of a file that has not changed to say so, whatever the defaults of the cluster: the patch
// that it makes of the file and of what was stored is to be empty.
func TestASecondApplyChangesNothing(t *testing.T) {
	s := newServer(t, "event-bus", "ours", "window", "PT1M", "delivery.retry", "3", "delivery.timeout", "PT5S", "delivery.backoff-delay", "PT1S")
	files := documents(t, "../../config/samples/*.yaml", "../../docs/examples/*.yaml", "../apis/events/v1alpha1/testdata/valid/*.yaml")
	// Of a file with creationTimestamp: null, as many tools write it.
	const applied = `{kubectl.kubernetes.io/last-applied-configuration: '{"metadata":{"creationTimestamp":null}}'}`
	for name, spec := range map[string]string{
		"EventSource with zero values":    `{logLevel: "", kafka: {e: {brokers: "k:9092", authRequired: false}}, http: {h: {raw: false, type: ""}}, allowedNamespaces: []}`,
		"EventSource with nulls":          `{sink: null, kafka: {e: {brokers: "k:9092", scaleOption: null}}}`,
		"EventSource with null in a text": `{cron: {c: {schedule: "@hourly", data: '{"a":null}'}}, http: {h: {raw: false}}}`,
		"EventBus of another size":        `{embedded: {storage: 1024Mi, replicas: 1}}`,
		"Trigger with zero values":        `{inputs: {a: {eventSource: e, event: a}}, subscribers: [{condition: a, topic: t, match: "", delivery: {}, deadLetterTopic: ""}]}`,
		"Trigger with sinks": `{inputs: {a: {eventSource: e, event: a}}, subscribers: [{condition: a, sink: {uri: "HTTP://sink:80/%7Ea/?q=a b"}},
			{condition: a, sink: {ref: {apiVersion: v1, kind: Service, name: s}}, deadLetterSink: {ref: {apiVersion: v1, kind: Service, name: s}}, delivery: {retry: 0}}]}`,
	} {
		kind, _, _ := strings.Cut(name, " ")
		files[name] = toJSON(t, fmt.Sprintf("{apiVersion: events.openfunction.io/v1alpha1, kind: %s, metadata: {name: x, namespace: shop, annotations: %s}, spec: %s}", kind, applied, strings.ReplaceAll(spec, "\t", " ")))
	}
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			stored, _ := s.admit(t, nil, file, "")
			patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch(file, file, stored)
			if err != nil {
				t.Fatal(err)
			}
			if string(patch) != "{}" {
				t.Errorf("it is stored as %s, so the second time it is patched with %s", spec(t, stored), patch)
			}
		})
	}
}
