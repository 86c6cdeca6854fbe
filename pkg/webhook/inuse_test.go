package webhook

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/clustereventbus"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventbus"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventsource"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/trigger"
)

func source(namespace, name, bus string) *v1alpha1.EventSource {
	return &v1alpha1.EventSource{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: v1alpha1.EventSourceSpec{EventBus: bus}}
}

func triggerOn(namespace, name, bus string) *v1alpha1.Trigger {
	return &v1alpha1.Trigger{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: v1alpha1.TriggerSpec{EventBus: bus}}
}

func busIn(namespace, name string) *v1alpha1.EventBus {
	return &v1alpha1.EventBus{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

// add makes objects known to admission.
func (s *server) add(t *testing.T, all ...any) {
	t.Helper()
	for _, o := range all {
		switch o := o.(type) {
		case *v1alpha1.EventSource:
			check(t, eventsource.Get(s.ctx).Informer().GetIndexer().Add(o))
		case *v1alpha1.Trigger:
			check(t, trigger.Get(s.ctx).Informer().GetIndexer().Add(o))
		case *v1alpha1.EventBus:
			check(t, eventbus.Get(s.ctx).Informer().GetIndexer().Add(o))
		case *v1alpha1.ClusterEventBus:
			check(t, clustereventbus.Get(s.ctx).Informer().GetIndexer().Add(o))
		}
	}
}

func TestWhatWasStoredWithoutDefaultsUsesTheDefaultBus(t *testing.T) {
	s := newServer(t)
	s.add(t, source("a", "es", ""), triggerOn("a", "t", ""))
	got, err := newUsers(s.ctx).of("a", "default")
	if diff := cmp.Diff(got, []string{"EventSource a/es", "Trigger a/t"}); diff != "" || err != nil {
		t.Errorf("users of the bus default (-got +want), %v:\n%s", err, diff)
	}
}

func TestDeletingABus(t *testing.T) {
	const unless = `: delete them first, or set the annotation events.openfunction.io/force-delete: "true" on it`
	leaving := source("a", "es", "main")
	leaving.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	sinkOnly := source("a", "es", "")
	sinkOnly.Spec.Sink = &v1alpha1.Sink{}
	many := []any{triggerOn("a", "t", "main")}
	for i := range 6 {
		many = append(many, source("a", fmt.Sprintf("es%d", i), "main"))
	}
	for _, tt := range []struct {
		name            string
		kind, namespace string
		annotations     map[string]string
		others          []any
		want            string
	}{
		{"nobody uses it", "EventBus", "a", nil, nil, ""},
		{"others use other buses", "EventBus", "a", nil, []any{source("a", "es", "other"), source("b", "es", "main"), triggerOn("b", "t", "main")}, ""},
		{"an EventSource uses it", "EventBus", "a", nil, []any{source("a", "es", "main")}, "EventBus main: is used by EventSource a/es" + unless},
		{"a Trigger uses it", "EventBus", "a", nil, []any{triggerOn("a", "t", "main")}, "EventBus main: is used by Trigger a/t" + unless},
		{"its user is being deleted too", "EventBus", "a", nil, []any{leaving}, ""},
		{
			"many use it", "EventBus", "a", nil, many,
			"EventBus main: is used by EventSource a/es0, EventSource a/es1, EventSource a/es2, EventSource a/es3, EventSource a/es4 and 2 more" + unless,
		},
		{"its owner insists", "EventBus", "a", map[string]string{v1alpha1.ForceDelete: "true"}, many, ""},
		{"its owner does not insist", "EventBus", "a", map[string]string{v1alpha1.ForceDelete: "false"}, many[:1], "EventBus main: is used by Trigger a/t" + unless},
		{
			"a cluster bus is used from two namespaces", "ClusterEventBus", "", nil, []any{source("a", "es", "main"), triggerOn("b", "t", "main")},
			"ClusterEventBus main: is used by EventSource a/es, Trigger b/t" + unless,
		},
		{"a sink needs no bus", "EventBus", "a", nil, []any{sinkOnly}, ""},
		{"a cluster bus is hidden by a namespace's own", "ClusterEventBus", "", nil, []any{source("a", "es", "main"), busIn("a", "main")}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.add(t, tt.others...)
			bus := busIn(tt.namespace, "main")
			bus.Kind, bus.Annotations = tt.kind, tt.annotations
			data, err := json.Marshal(bus)
			if err != nil {
				t.Fatal(err)
			}
			request := newRequest(t, data)
			request.Operation, request.OldObject, request.Object.Raw = admissionv1.Delete, request.Object, nil
			for _, name := range []string{"main", ""} { // deletecollection asks for each bus and names none
				request.Name = name
				got := s.validation.Admit(s.ctx, request)
				if got.Allowed != (tt.want == "") || !got.Allowed && (got.Result.Message != tt.want || got.Result.Code != 409) {
					t.Errorf("delete %q: allowed %t with %v, want %q", name, got.Allowed, got.Result, tt.want)
				}
			}
		})
	}
}

func TestABusInPlaceOfTheClusters(t *testing.T) {
	const refused = "EventBus main: would take the place of the ClusterEventBus of that name for EventSource a/es, Trigger a/t, and what waits for them " +
		`there would not be delivered: choose another name, delete them first, or set the annotation events.openfunction.io/force-delete: "true" on it`
	clusters := &v1alpha1.ClusterEventBus{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: v1alpha1.EventBusSpec{
		JetStream: &v1alpha1.JetStreamSpec{URL: "nats://n:4222"},
	}}
	users := []any{clusters, source("a", "es", "main"), triggerOn("a", "t", "main"), triggerOn("b", "t", "main"), source("a", "other", "other")}
	embedded := &v1alpha1.ClusterEventBus{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: v1alpha1.EventBusSpec{Embedded: &v1alpha1.EmbeddedSpec{}}}
	for _, tt := range []struct {
		name, meta, spec string
		others           []any
		want             string
	}{
		{"it leads elsewhere", "name: main", `{jetStream: {url: "nats://m:4222"}}`, users, refused},
		{"it is another kind of bus", "name: main", `{embedded: {}}`, users, refused},
		{"its servers are its own", "name: main", `{embedded: {}}`, append([]any{embedded}, users[1:3]...), refused},
		{
			"it leads to the same broker, with a password", "name: main", `{jetStream: {url: "nats://n:4222", username: u, passwordFrom: {name: s, key: k}, tls: {caCertFrom: {name: s, key: ca}}}}`,
			users, "",
		},
		{"nobody names it", "name: mine", `{embedded: {}}`, users, ""},
		{"nobody of the namespace names it", "name: main", `{embedded: {}}`, []any{clusters, triggerOn("b", "t", "main")}, ""},
		{"the cluster has none", "name: main", `{embedded: {}}`, users[1:], ""},
		{"its owner insists", `name: main, annotations: {events.openfunction.io/force-delete: "true"}`, `{embedded: {}}`, users, ""},
		{"what cannot work at all is said first", "name: main", `{}`, users,
			"spec: has no backend: set exactly one of natsStreaming, jetStream, kafka or embedded (embedded: {} needs no server)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.add(t, tt.others...)
			document := toJSON(t, fmt.Sprintf("{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {namespace: a, %s}, spec: %s}", tt.meta, tt.spec))
			_, got := s.admit(t, nil, document, "")
			if got.Allowed != (tt.want == "") || !got.Allowed && got.Result.Message != tt.want {
				t.Errorf("create: allowed %t with %v, want %q", got.Allowed, got.Result, tt.want)
			}
		})
	}
}

func TestChangingABusInUse(t *testing.T) {
	const (
		stays   = "makes other subscriptions, and what waits in those of EventSource a/es would not be delivered: delete them first, or set the annotation events.openfunction.io/force-delete: \"true\" on the bus"
		leads   = "must lead to the same servers as before: otherwise what waits there for EventSource a/es is not delivered"
		stan    = `{natsStreaming: {natsURL: "nats://n:4222", natsStreamingClusterID: stan}}`
		topic   = `{natsStreaming: {natsURL: "nats://n:4222", natsStreamingClusterID: stan, subscriptionType: topic, consumerID: c}}`
		insists = `annotations: {events.openfunction.io/force-delete: "true"}`
	)
	for _, tt := range []struct {
		name, from, to, meta string
		want, warnings       []string
	}{
		{
			"everything that names a subscription", stan,
			`{natsStreaming: {natsURL: "nats://n:4222", natsStreamingClusterID: other, subscriptionType: topic, durableSubscriptionName: d, consumerID: c}}`, "",
			[]string{
				"spec.natsStreaming.durableSubscriptionName: " + stays, "spec.natsStreaming.natsStreamingClusterID: " + stays,
				"spec.natsStreaming.subscriptionType: " + stays,
			}, nil,
		},
		{"unless its owner insists", stan, `{natsStreaming: {natsURL: "nats://m:4222", natsStreamingClusterID: other}}`, insists, nil, nil},
		{"a default that is written", stan, `{natsStreaming: {natsURL: "nats://n:4222", natsStreamingClusterID: stan, durableSubscriptionName: openfunction, maxInFlight: 1}}`, "", nil, nil},
		{"one that never worked is mended", `{natsStreaming: {natsURL: "nats://n:4222", natsStreamingClusterID: ""}}`, stan, "", nil, nil},
		{"the client of a queue", stan, `{natsStreaming: {natsURL: "nats://n:4222", natsStreamingClusterID: stan, consumerID: c}}`, "", nil, nil},
		{
			"the client of a topic", topic, `{natsStreaming: {natsURL: "nats://n:4222", natsStreamingClusterID: stan, subscriptionType: topic}}`, "",
			[]string{"spec.natsStreaming.consumerID: " + stays}, nil,
		},
		{
			"where NATS Streaming is", stan, `{natsStreaming: {natsURL: "nats://m:4222", natsStreamingClusterID: stan}}`, "",
			nil, []string{"spec.natsStreaming.natsURL: " + leads},
		},
		{"where JetStream is", `{jetStream: {url: "nats://n:4222"}}`, `{jetStream: {url: "nats://m:4222"}}`, "", nil, []string{"spec.jetStream.url: " + leads}},
		{"other brokers", `{kafka: {brokers: "a:1,b:1"}}`, `{kafka: {brokers: "c:1"}}`, "", nil, []string{"spec.kafka.brokers: " + leads}},
		{"brokers of the same cluster", `{kafka: {brokers: "a:1,b:1"}}`, `{kafka: {brokers: "b:1, c:1"}}`, "", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			document := func(spec string) []byte {
				return toJSON(t, fmt.Sprintf("{apiVersion: events.openfunction.io/v1alpha1, kind: EventBus, metadata: {namespace: a, name: main, %s}, spec: %s}", tt.meta, spec))
			}
			for _, users := range [][]any{{source("a", "es", "main")}, nil} {
				s, want, warnings := newServer(t), tt.want, tt.warnings
				s.add(t, users...)
				if users == nil {
					want, warnings = nil, nil
				}
				_, got := s.admit(t, document(tt.from), document(tt.to), "")
				var message string
				if got.Result != nil {
					message = got.Result.Message
				}
				if diff := cmp.Diff(message, strings.Join(want, "\n")); diff != "" || got.Allowed != (want == nil) {
					t.Errorf("with %d users: allowed %t, message (-got +want):\n%s", len(users), got.Allowed, diff)
				}
				if diff := cmp.Diff(got.Warnings, warnings); diff != "" {
					t.Errorf("with %d users: warnings (-got +want):\n%s", len(users), diff)
				}
			}
		})
	}
}
