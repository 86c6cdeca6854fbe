package objects_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/objects"
	. "github.com/openfunction/events/pkg/reconciler/testing"
)

func TestBus(t *testing.T) {
	for _, tt := range []struct {
		name           string
		bus            runtime.Object
		want, problems string
	}{
		{"an EventBus", EventBus("shop", "b", WithToken("nats")), "EventBus shop/b t0ken", ""},
		{"a ClusterEventBus reads the Secrets of the system", ClusterEventBus("b", WithToken("nats")), "ClusterEventBus b t0ken", ""},
		{"a Secret is missing", EventBus("shop", "b", WithToken("x")), "",
			`SecretNotFound EventBus shop/b: spec.jetStream.tokenFrom: key "token" of Secret shop/x: there is no such Secret: create it, or correct the name`},
		{"an embedded one whose servers are not made yet", ClusterEventBus("b", Embedded), "",
			"BusNotReady ClusterEventBus b: spec.embedded: its servers are not made yet"},
		{"an embedded one", EventBus("shop", "e", Embedded), "EventBus shop/e tls://eventbus-e-0.eventbus-e.shop.svc:4222 hunter2", ""},
		{"an invalid one", EventBus("shop", "b", WithURL("")), "",
			"Invalid EventBus shop/b: spec.jetStream.url: is empty: write a URL such as nats://nats.default:4222, several separated by commas"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := NewWorld(t, tt.bus, Secret("shop", "nats"), Secret("", "nats"), Servers("shop", "eventbus-e")).Ctx
			r := objects.NewReader(ctx, noTracker())
			var b *plan.Bus
			var problems []plan.Problem
			var err error
			switch o := tt.bus.(type) {
			case *v1alpha1.EventBus:
				b, problems, err = r.EventBus(ctx, o)
			case *v1alpha1.ClusterEventBus:
				b, problems, err = r.ClusterEventBus(ctx, o)
			}
			if err != nil {
				t.Fatal(err)
			}
			got, said := "", ""
			if b != nil {
				got = b.Name + " " + b.JetStream.Token
				if b.JetStream.Password != "" {
					got = b.Name + " " + b.JetStream.URL + " " + b.JetStream.Password
				}
			}
			for _, p := range problems {
				said += p.Reason + " " + p.Error()
			}
			if diff := cmp.Diff([]string{tt.want, tt.problems}, []string{got, said}); diff != "" {
				t.Errorf("bus and problems (-want, +got):\n%s", diff)
			}
		})
	}
}

func TestUsers(t *testing.T) {
	sink := URI("http://sink.example.com")
	world := []runtime.Object{
		EventBus("shop", "default"),
		EventSource("shop", "orders", WithCron("tick")),
		EventSource("shop", "direct", WithCron("tick"), WithSink(sink)),
		EventSource("crm", "orders", WithCron("tick")),
		EventSource("crm", "others", WithCron("tick"), WithBus("other")),
		Trigger("shop", "t", WithSubscriber("a", sink)),
		Trigger("crm", "t", WithSubscriber("a", sink)),
		Trigger("crm", "other", OnBus("other")),
	}
	for _, tt := range []struct {
		bus  string
		want []string
	}{
		{"EventBus shop/default", []string{"shop/orders", "shop/t"}},
		{"ClusterEventBus default", []string{"crm/orders", "crm/t"}},
		{"ClusterEventBus other", []string{"crm/others", "crm/other"}},
		{"EventBus crm/default", []string{"crm/orders", "crm/t"}}, // once it exists
		{"EventBus shop/other", nil},
	} {
		t.Run(tt.bus, func(t *testing.T) {
			ctx := NewWorld(t, world...).Ctx
			eventSources, triggers, err := objects.NewReader(ctx, noTracker()).Users(tt.bus)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range eventSources {
				got = append(got, o.Namespace+"/"+o.Name)
			}
			for _, o := range triggers {
				got = append(got, o.Namespace+"/"+o.Name)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Users (-want, +got):\n%s", diff)
			}
		})
	}
}
