package plan_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

func TestCompileBus(t *testing.T) {
	opts := plan.Options{Secret: func(namespace, name, key string) (string, error) {
		if name == "missing" {
			return "", errors.New("there is no such Secret")
		}
		return namespace + "/" + name + "/" + key, nil
	}}
	jetStream := func(secret string) *v1alpha1.EventBusSpec {
		return &v1alpha1.EventBusSpec{JetStream: &v1alpha1.JetStreamSpec{
			URL: "nats://n:4222", NATSAccessSpec: v1alpha1.NATSAccessSpec{TokenFrom: &v1alpha1.SecretKeyRef{Name: secret, Key: "token"}},
		}}
	}
	want := func(name, token string) *plan.Bus {
		return &plan.Bus{Name: name, JetStream: &plan.JetStream{
			URL: "nats://n:4222", NATSAccess: plan.NATSAccess{Token: token}, Replicas: 1, AckWait: 10 * time.Second, MaxInFlight: 256,
		}}
	}
	for _, tt := range []struct {
		name            string
		kind, namespace string
		spec            *v1alpha1.EventBusSpec
		want            *plan.Bus
		problems        []string
	}{
		{"an EventBus reads the Secrets of its namespace", "EventBus", "shop", jetStream("nats"), want("EventBus shop/b", "shop/nats/token"), nil},
		{"a ClusterEventBus reads those of the system", "ClusterEventBus", "", jetStream("nats"), want("ClusterEventBus b", "openfunction/nats/token"), nil},
		{"a bus with a problem is no bus", "EventBus", "shop", jetStream("missing"), nil,
			[]string{`EventBus shop/b: spec.jetStream.tokenFrom: key "token" of Secret shop/missing: there is no such Secret`}},
		{"neither is one without a backend", "EventBus", "shop", &v1alpha1.EventBusSpec{}, nil,
			[]string{"EventBus shop/b: spec: no backend; set one of natsStreaming, jetStream, kafka and embedded"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, problems := plan.CompileBus(tt.kind, tt.namespace, "b", tt.spec, opts)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("CompileBus (-want, +got):\n%s", diff)
			}
			var sentences []string
			for _, p := range problems {
				sentences = append(sentences, p.Error())
			}
			if diff := cmp.Diff(tt.problems, sentences); diff != "" {
				t.Errorf("problems (-want, +got):\n%s", diff)
			}
		})
	}
}
