package objects_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/tracker"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/objects"
	. "github.com/openfunction/events/pkg/reconciler/testing"
)

// summary is what the tests look at: the plan in a few words, what waits, the problems, the bus and its condition.
func summary(c *objects.Compiled) string {
	var b strings.Builder
	for _, s := range c.Plan.Sources {
		fmt.Fprintf(&b, "source %s %s to %s%s\n", s.Kind, s.Event, s.Bus, url(s.Sink))
	}
	for _, s := range c.Plan.Subscribers {
		fmt.Fprintf(&b, "subscriber %s on %s to%s\n", s.Condition, s.Bus, url(s.Sink))
	}
	for _, bus := range c.Plan.Buses {
		fmt.Fprintf(&b, "%s\n", bus.Name)
	}
	for _, p := range c.Problems {
		fmt.Fprintf(&b, "%s: %s: %s\n", p.Reason, p.Path, p.Message)
	}
	v := c.Bus()
	fmt.Fprintf(&b, "bus %q %s %s\n", c.BusName, v.Status, v.Reason)
	for _, s := range c.Plan.WaitingSources {
		fmt.Fprintf(&b, "waiting %s %s\n", s.Kind, s.Event)
	}
	for _, s := range c.Plan.Waiting {
		fmt.Fprintf(&b, "waiting %s of %s\n", s.Condition, s.Owner())
	}
	return b.String()
}

func url(t *plan.Target) string {
	if t == nil {
		return ""
	}
	return " " + t.URL
}

func TestEventSource(t *testing.T) {
	address := Addressable("shop", "display", "http://display.shop.example.com")
	for _, tt := range []struct {
		name    string
		es      *v1alpha1.EventSource
		objects []runtime.Object
		want    string
	}{
		{"an EventSource with a bus and a sink", EventSource("shop", "es", WithBus("b"), WithCron("tick"), WithSink(Service("shop", "display"))),
			[]runtime.Object{EventBus("shop", "b"), address}, `
source cron tick to EventBus shop/b
subscriber event on EventBus shop/b to http://display.shop.example.com
EventBus shop/b
bus "EventBus shop/b" True 
`},
		{"only the bus that it uses is in the plan", EventSource("shop", "es", WithBus("b"), WithCron("tick")),
			[]runtime.Object{EventBus("shop", "b"), EventBus("shop", "c", WithToken("missing")), EventBus("other", "b"), ClusterEventBus("b")}, `
source cron tick to EventBus shop/b
EventBus shop/b
bus "EventBus shop/b" True 
`},
		{"without an EventBus in the namespace it is the ClusterEventBus", EventSource("shop", "es", WithBus("b"), WithCron("tick")),
			[]runtime.Object{EventBus("other", "b"), ClusterEventBus("b", Unreachable)}, `
source cron tick to ClusterEventBus b
ClusterEventBus b
bus "ClusterEventBus b" False Unreachable
`},
		{"a bus is needed only if it is named", EventSource("shop", "es", WithHTTP("order"), WithSink(URI("https://example.com/in"))), nil, `
source http order to  https://example.com/in
bus "" True NotUsed
`},
		{"a bus that is missing passes, and those that exist are listed", EventSource("shop", "es", WithBus("b"), WithCron("tick")),
			[]runtime.Object{EventBus("shop", "c", WithToken("missing")), EventBus("other", "b")}, `
BusNotFound: spec.eventBus: no EventBus "b" in namespace shop and no ClusterEventBus "b" (there are: EventBus shop/c); add an EventBus named b, for example with spec.embedded: {}
bus "" False BusNotFound
waiting cron tick
`},
		{"the sink is looked at even without its bus", EventSource("shop", "es", WithBus("b"), WithCron("tick"), WithSink(Service("shop", "display"))), nil, `
BusNotFound: spec.eventBus: no EventBus "b" in namespace shop and no ClusterEventBus "b" (there are no others either); add an EventBus named b, for example with spec.embedded: {}
SinkNotResolved: spec.sink: Service shop/display (serving.knative.dev/v1) does not exist: create it, or correct the ref
bus "" False BusNotFound
waiting cron tick
waiting event of EventSource shop/es
`},
		{"an embedded bus has no servers yet", EventSource("shop", "es", WithBus("b"), WithCron("tick")), []runtime.Object{EventBus("shop", "b", Embedded)}, `
BusNotReady: spec.eventBus: EventBus shop/b cannot be used: spec.embedded: its servers are not made yet
bus "EventBus shop/b" False BusNotReady
waiting cron tick
`},
		{"a bus that is invalid by today's rules is none", EventSource("shop", "es", WithBus("b"), WithCron("tick")),
			[]runtime.Object{EventBus("shop", "b", WithURL("ftp://x"))}, `
BusNotReady: spec.eventBus: EventBus shop/b cannot be used: spec.jetStream.url: "ftp://x" does not begin with a scheme that can be used (nats, tls, ws, wss): write for example nats://nats.default:4222
bus "EventBus shop/b" False BusNotReady
waiting cron tick
`},
		{"a Secret of the bus is missing", EventSource("shop", "es", WithBus("b"), WithCron("tick")),
			[]runtime.Object{EventBus("shop", "b", WithToken("nats"))}, `
BusNotReady: spec.eventBus: EventBus shop/b cannot be used: spec.jetStream.tokenFrom: key "token" of Secret shop/nats: there is no such Secret: create it, or correct the name
bus "EventBus shop/b" False BusNotReady
waiting cron tick
`},
		{"a Secret of one event stops only that one", EventSource("shop", "es", WithBus("b"), WithCron("tick"), WithKafka("orders", "kafka")),
			[]runtime.Object{EventBus("shop", "b")}, `
source cron tick to EventBus shop/b
EventBus shop/b
SecretNotFound: spec.kafka[orders].saslPasswordFrom: key "password" of Secret shop/kafka: there is no such Secret: create it, or correct the name
bus "EventBus shop/b" True 
waiting kafka orders
`},
		{"a Secret is read", EventSource("shop", "es", WithBus("b"), WithKafka("orders", "kafka")),
			[]runtime.Object{EventBus("shop", "b"), Secret("shop", "kafka")}, `
source kafka orders to EventBus shop/b
EventBus shop/b
bus "EventBus shop/b" True 
`},
		{"a key of a Secret is missing", EventSource("shop", "es", WithBus("b"), WithKafka("orders", "kafka")),
			[]runtime.Object{EventBus("shop", "b"), &corev1.Secret{ObjectMeta: Secret("shop", "kafka").ObjectMeta}}, `
SecretNotFound: spec.kafka[orders].saslPasswordFrom: key "password" of Secret shop/kafka: the Secret has no such key: add it, or correct the key
bus "EventBus shop/b" True 
waiting kafka orders
`},
		{"what was valid once is left as it is", EventSource("shop", "es", WithBus("b"), WithCron("tick"), func(es *v1alpha1.EventSource) { es.Spec.Cron["tick"].Schedule = "soon" }),
			[]runtime.Object{EventBus("shop", "b")}, `
Invalid: spec.cron[tick].schedule: "soon" has 1 fields, but a schedule has five (minute, hour, day-of-month, month, day-of-week), or six with seconds first: write for example "*/5 * * * *"
bus "" Unknown Invalid
waiting cron tick
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.es.DeepCopy()
			ctx := NewWorld(t, append(tt.objects, tt.es)...).Ctx
			got, err := objects.NewReader(ctx, noTracker()).EventSource(ctx, tt.es)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want[1:], summary(got)); diff != "" {
				t.Errorf("EventSource (-want, +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tt.es); diff != "" {
				t.Errorf("the object was changed (-before, +after):\n%s", diff)
			}
		})
	}
}

func TestTrigger(t *testing.T) {
	sink := URI("http://sink.example.com")
	orders := EventSource("shop", "orders", WithBus("b"), WithHTTP("order"), WithKafka("record", "missing"), WithSink(Service("shop", "missing")))
	for _, tt := range []struct {
		name    string
		trigger *v1alpha1.Trigger
		objects []runtime.Object
		want    string
	}{
		{"what is wrong with its EventSource is not wrong with the Trigger", Trigger("shop", "t", OnBus("b"), WithInput("a", "", "orders", "record"), WithSubscriber("a", sink)),
			[]runtime.Object{EventBus("shop", "b"), orders}, `
subscriber a on EventBus shop/b to http://sink.example.com
EventBus shop/b
bus "EventBus shop/b" True 
`},
		{"an EventSource that is missing passes", Trigger("shop", "t", OnBus("b"), WithInput("a", "", "order", "order"), WithSubscriber("a", sink)),
			[]runtime.Object{EventBus("shop", "b"), orders}, `
EventSourceNotFound: spec.inputs[a].eventSource: no EventSource shop/order; there are: orders
bus "EventBus shop/b" True 
waiting a of Trigger shop/t
`},
		{"an event that is missing passes", Trigger("shop", "t", OnBus("b"), WithInput("a", "", "orders", "x"), WithSubscriber("a", sink)),
			[]runtime.Object{EventBus("shop", "b"), orders}, `
EventNotFound: spec.inputs[a].event: EventSource shop/orders has no event "x"; there are: order, record
bus "EventBus shop/b" True 
waiting a of Trigger shop/t
`},
		{"what is not allowed does not run, whatever else is wrong", Trigger("crm", "t", OnBus("b"), WithInput("a", "shop", "orders", "order"), WithSubscriber("a", Service("crm", "missing"))),
			[]runtime.Object{ClusterEventBus("b"), orders}, `
NotAllowed: spec.inputs[a].namespace: EventSource shop/orders does not allow Triggers of namespace crm; add it to the spec.allowedNamespaces there
SinkNotResolved: spec.subscribers[0].sink: Service crm/missing (serving.knative.dev/v1) does not exist: create it, or correct the ref
bus "ClusterEventBus b" True 
`},
		{"namespaces share a ClusterEventBus", Trigger("crm", "t", OnBus("b"), WithInput("a", "shop", "orders", "order"), WithSubscriber("a", sink)),
			[]runtime.Object{ClusterEventBus("b"), EventSource("shop", "orders", WithBus("b"), WithHTTP("order"), WithAllowed("crm"))}, `
subscriber a on ClusterEventBus b to http://sink.example.com
ClusterEventBus b
bus "ClusterEventBus b" True 
`},
		{"an EventBus of the EventSource's namespace is another bus", Trigger("crm", "t", OnBus("b"), WithInput("a", "shop", "orders", "order"), WithSubscriber("a", sink)),
			[]runtime.Object{ClusterEventBus("b"), EventBus("shop", "b"), EventSource("shop", "orders", WithBus("b"), WithHTTP("order"), WithAllowed("crm"))}, `
BusMismatch: spec.inputs[a].eventSource: EventSource shop/orders publishes on EventBus shop/b, the Trigger listens on ClusterEventBus b; across namespaces both must use one ClusterEventBus
bus "ClusterEventBus b" True 
waiting a of Trigger crm/t
`},
		{"one subscriber without its sink leaves the other", Trigger("shop", "t", OnBus("b"), WithInput("a", "", "orders", "order"), WithSubscriber("a", sink), WithSubscriber("a", Service("shop", "missing"))),
			[]runtime.Object{EventBus("shop", "b"), orders}, `
subscriber a on EventBus shop/b to http://sink.example.com
EventBus shop/b
SinkNotResolved: spec.subscribers[1].sink: Service shop/missing (serving.knative.dev/v1) does not exist: create it, or correct the ref
bus "EventBus shop/b" True 
waiting a of Trigger shop/t
`},
		{"what was valid once is left as it is", Trigger("shop", "t", OnBus("b"), WithInput("a", "", "orders", "order"), WithSubscriber("a && b", sink)),
			[]runtime.Object{EventBus("shop", "b"), orders}, `
Invalid: spec.subscribers[0].condition: column 6: unknown input "b" (inputs are a)
bus "" Unknown Invalid
waiting a && b of Trigger shop/t
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := NewWorld(t, append(tt.objects, tt.trigger)...).Ctx
			got, err := objects.NewReader(ctx, noTracker()).Trigger(ctx, tt.trigger)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want[1:], summary(got)); diff != "" {
				t.Errorf("Trigger (-want, +got):\n%s", diff)
			}
		})
	}
}

func noTracker() tracker.Interface { return tracker.New(func(types.NamespacedName) {}, 0) }

// A subscriber whose sink is away is not one that an edit has led elsewhere: its subscription is not to be inherited.
func TestASubscriberThatCannotRunWaits(t *testing.T) {
	orders := EventSource("shop", "orders", WithBus("b"), WithHTTP("order"))
	trigger := Trigger("shop", "t", OnBus("b"), WithInput("a", "", "orders", "order"),
		WithSubscriber("a", Service("", "missing")), WithSubscriber("a", URI("http://example.com")))
	ctx := NewWorld(t, EventBus("shop", "b"), orders, trigger).Ctx
	got, err := objects.NewReader(ctx, noTracker()).Trigger(ctx, trigger)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Plan.Subscribers) != 1 || len(got.Plan.Waiting) != 1 || got.Plan.Waiting[0].ID == got.Plan.Subscribers[0].ID {
		t.Errorf("subscribers = %v, waiting = %v; want one of each", got.Plan.Subscribers, got.Plan.Waiting)
	}
}
