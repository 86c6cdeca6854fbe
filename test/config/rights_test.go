package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
)

// forOthers are the roles that are bound to nobody, so that no request of ours tells what they are for.
var forOthers = []struct{ role, why, resources, verbs string }{
	{"openfunction-events-edit", "who may edit a namespace, but not ClusterEventBuses, may do so with what we define",
		"eventbuses eventsources triggers", "create update patch delete deletecollection"},
	{"openfunction-events-view", "who may view a namespace may do so with what we define; its objects may name ClusterEventBuses",
		"clustereventbuses eventbuses eventsources triggers", "get list watch"},
	{"openfunction-events-addressable-resolver", "an EventSource is a sink of Knative's controllers",
		"eventsources eventsources/status", "get list watch"},
}

// TestRightsOfOthers compares what roles for others grant with the table. Whether our accounts need theirs is seen by test/cluster.
func TestRightsOfOthers(t *testing.T) {
	var got, want []string
	for _, r := range Rights(t) {
		if r.Account == "" {
			got = append(got, r.Role+" "+r.String())
		}
	}
	for _, r := range forOthers {
		for resource := range strings.FieldsSeq(r.resources) {
			for verb := range strings.FieldsSeq(r.verbs) {
				want = append(want, fmt.Sprintf("ClusterRole %s %s %s.events.openfunction.io", r.role, verb, resource))
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("what is granted (-) and what the table says others need (+):\n%s", diff)
	}
}

// TestSinksAreAggregated wants the controller to resolve every kind that says it is addressable.
func TestSinksAreAggregated(t *testing.T) {
	role := list[rbacv1.ClusterRole](t)["openfunction-events-controller-sinks"]
	if role == nil || role.AggregationRule == nil || role.Rules != nil {
		t.Fatalf("got %+v, want a ClusterRole whose rules the cluster writes: rules of ours would undo them at each apply", role)
	}
	want := map[string]string{"duck.knative.dev/addressable": "true"}
	if diff := cmp.Diff(role.AggregationRule.ClusterRoleSelectors[0].MatchLabels, want); diff != "" {
		t.Errorf("selects (-got +want):\n%s", diff)
	}
}
