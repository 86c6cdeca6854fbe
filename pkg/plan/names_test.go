package plan_test

import (
	"testing"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

func TestNames(t *testing.T) {
	tests := []struct{ name, got, want string }{
		{"Topic", plan.Topic("ns", "es", "e"), "openfunction.ns.es.e"},
		{"DeadLetterTopic", plan.DeadLetterTopic("ns", "t"), "openfunction.ns.trigger.t.deadletter"},
		{"EventSourceDeadLetterTopic", plan.EventSourceDeadLetterTopic("ns", "es"), "openfunction.ns.eventsource.es.deadletter"},
		{"SourceURI", plan.SourceURI("ns", "es", "e"), "/namespaces/ns/eventsources/es/e"},
		{"EventType", plan.EventType(plan.KindHTTP), v1alpha1.DefaultHTTPType},
		{"ConsumerGroup", plan.ConsumerGroup("ns", "es", "e"), "openfunction.ns.es.kafka.e"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s = %q, want %q", tt.name, tt.got, tt.want)
		}
	}
}

func TestProblemError(t *testing.T) {
	tests := []struct {
		problem plan.Problem
		want    string
	}{
		{plan.Problem{Kind: "Trigger", Namespace: "default", Name: "t", Path: "spec.subscribers[1].sink", Message: "is away"}, "Trigger default/t: spec.subscribers[1].sink: is away"},
		{plan.Problem{Kind: "ClusterEventBus", Name: "b", Path: "spec", Message: "is empty"}, "ClusterEventBus b: spec: is empty"},
	}
	for _, tt := range tests {
		if got := tt.problem.Error(); got != tt.want {
			t.Errorf("Error() = %q, want %q", got, tt.want)
		}
	}
}
