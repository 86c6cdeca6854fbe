package config

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
)

const everywhere = ""

// rights are what each service account may do, and each ClusterRole that others include by its labels, and why: what needs it.
var rights = map[string][]struct{ where, what, verb, why string }{
	"events-controller": {
		{everywhere, "clustereventbuses.events.openfunction.io", "get", "writing a status again after a conflict"},
		{everywhere, "clustereventbuses.events.openfunction.io", "list", "informer"},
		{everywhere, "clustereventbuses.events.openfunction.io", "watch", "informer"},
		{everywhere, "clustereventbuses/status.events.openfunction.io", "update", "generated reconciler"},
		{everywhere, "clustereventbuses/finalizers.events.openfunction.io", "update", "where owner references are checked: kmeta.NewControllerRef"},
		{everywhere, "eventbuses/finalizers.events.openfunction.io", "update", "where owner references are checked: kmeta.NewControllerRef"},
		{everywhere, "eventbuses.events.openfunction.io", "get", "writing a status again after a conflict"},
		{everywhere, "eventbuses.events.openfunction.io", "list", "informer"},
		{everywhere, "eventbuses.events.openfunction.io", "watch", "informer"},
		{everywhere, "eventbuses/status.events.openfunction.io", "update", "generated reconciler"},
		{everywhere, "eventsources.events.openfunction.io", "get", "writing a status again after a conflict"},
		{everywhere, "eventsources.events.openfunction.io", "list", "informer"},
		{everywhere, "eventsources.events.openfunction.io", "watch", "informer"},
		{everywhere, "eventsources/finalizers.events.openfunction.io", "update", "where owner references are checked: kmeta.NewControllerRef"},
		{everywhere, "eventsources/status.events.openfunction.io", "update", "generated reconciler"},
		{everywhere, "triggers.events.openfunction.io", "get", "writing a status again after a conflict"},
		{everywhere, "triggers.events.openfunction.io", "list", "informer"},
		{everywhere, "triggers.events.openfunction.io", "watch", "informer"},
		{everywhere, "triggers/finalizers.events.openfunction.io", "update", "where owner references are checked: kmeta.NewControllerRef"},
		{everywhere, "triggers/status.events.openfunction.io", "update", "generated reconciler"},

		{everywhere, "deployments.apps", "get", "pkg/reconciler/workload: what the informer does not have yet"},
		{everywhere, "deployments.apps", "list", "pkg/reconciler/workload: informer"},
		{everywhere, "deployments.apps", "watch", "pkg/reconciler/workload: informer"},
		{everywhere, "deployments.apps", "create", "pkg/reconciler/workload: a new workload"},
		{everywhere, "deployments.apps", "update", "pkg/reconciler/workload: another image, log level or label"},
		{everywhere, "deployments.apps", "delete", "pkg/reconciler/workload: an event that its EventSource has no more"},
		{everywhere, "secrets", "get", "pkg/reconciler/objects: what objects refer to; and to give it to workloads"},
		{everywhere, "secrets", "list", "pkg/reconciler/workload: informer; and to give it to workloads"},
		{everywhere, "secrets", "watch", "pkg/reconciler/workload: informer; and to give it to workloads"},
		{everywhere, "secrets", "create", "pkg/reconciler/workload: the plan of a new workload"},
		{everywhere, "secrets", "update", "pkg/reconciler/workload: another plan"},
		{everywhere, "secrets", "delete", "pkg/reconciler/workload: an event that its EventSource has no more"},
		{everywhere, "serviceaccounts", "get", "pkg/reconciler/workload: what the informer does not have yet"},
		{everywhere, "serviceaccounts", "list", "pkg/reconciler/workload: informer"},
		{everywhere, "serviceaccounts", "watch", "pkg/reconciler/workload: informer"},
		{everywhere, "serviceaccounts", "create", "pkg/reconciler/workload: a new workload"},
		{everywhere, "serviceaccounts", "update", "pkg/reconciler/workload: what somebody else changed"},
		{everywhere, "serviceaccounts", "delete", "pkg/reconciler/workload: an event that its EventSource has no more"},
		{everywhere, "roles.rbac.authorization.k8s.io", "get", "pkg/reconciler/workload: what the informer does not have yet"},
		{everywhere, "roles.rbac.authorization.k8s.io", "list", "pkg/reconciler/workload: informer"},
		{everywhere, "roles.rbac.authorization.k8s.io", "watch", "pkg/reconciler/workload: informer"},
		{everywhere, "roles.rbac.authorization.k8s.io", "create", "pkg/reconciler/workload: a new workload"},
		{everywhere, "roles.rbac.authorization.k8s.io", "update", "pkg/reconciler/workload: what somebody else changed"},
		{everywhere, "roles.rbac.authorization.k8s.io", "delete", "pkg/reconciler/workload: an event that its EventSource has no more"},
		{everywhere, "rolebindings.rbac.authorization.k8s.io", "get", "pkg/reconciler/workload: what the informer does not have yet"},
		{everywhere, "rolebindings.rbac.authorization.k8s.io", "list", "pkg/reconciler/workload: informer"},
		{everywhere, "rolebindings.rbac.authorization.k8s.io", "watch", "pkg/reconciler/workload: informer"},
		{everywhere, "rolebindings.rbac.authorization.k8s.io", "create", "pkg/reconciler/workload: a new workload"},
		{everywhere, "rolebindings.rbac.authorization.k8s.io", "update", "pkg/reconciler/workload: what somebody else changed"},
		{everywhere, "rolebindings.rbac.authorization.k8s.io", "delete", "pkg/reconciler/workload: an event that its EventSource has no more"},
		{everywhere, "pods", "list", "pkg/reconciler/workload: whom to ask for a report"},
		{everywhere, "pods", "watch", "pkg/reconciler/workload: whom to ask for a report"},

		{everywhere, "statefulsets.apps", "get", "pkg/reconciler/broker: what the informer does not have yet"},
		{everywhere, "statefulsets.apps", "list", "pkg/reconciler/broker: informer"},
		{everywhere, "statefulsets.apps", "watch", "pkg/reconciler/broker: informer"},
		{everywhere, "statefulsets.apps", "create", "pkg/reconciler/broker: the servers of a new bus"},
		{everywhere, "statefulsets.apps", "update", "pkg/reconciler/broker: another image or syncInterval"},
		{everywhere, "poddisruptionbudgets.policy", "get", "pkg/reconciler/broker: what the informer does not have yet"},
		{everywhere, "poddisruptionbudgets.policy", "list", "pkg/reconciler/broker: informer"},
		{everywhere, "poddisruptionbudgets.policy", "watch", "pkg/reconciler/broker: informer"},
		{everywhere, "poddisruptionbudgets.policy", "create", "pkg/reconciler/broker: the servers of a new bus"},
		{everywhere, "poddisruptionbudgets.policy", "update", "pkg/reconciler/broker: what somebody else changed"},
		{everywhere, "services", "get", "pkg/reconciler/broker: what the informer does not have yet"},
		{everywhere, "services", "list", "pkg/reconciler/objects: sinks; pkg/reconciler/broker: informer"},
		{everywhere, "services", "watch", "pkg/reconciler/objects: sinks; pkg/reconciler/broker: informer"},
		{everywhere, "services", "create", "pkg/reconciler/broker: the servers of a new bus"},
		{everywhere, "services", "update", "pkg/reconciler/broker: what somebody else changed"},
		{everywhere, "events", "create", "generated reconciler: an object becomes ready or ceases to be"},
		{everywhere, "events", "patch", "generated reconciler: the same again"},

		{everywhere, "customresourcedefinitions.apiextensions.k8s.io[components.dapr.io]", "list", "pkg/reconciler/optional: is Dapr here?"},
		{everywhere, "customresourcedefinitions.apiextensions.k8s.io[components.dapr.io]", "watch", "pkg/reconciler/optional: is Dapr here?"},
		{everywhere, "components.dapr.io", "get", "pkg/reconciler/optional: whose is what is in the way?"},
		{everywhere, "components.dapr.io", "list", "pkg/reconciler/optional: informer"},
		{everywhere, "components.dapr.io", "watch", "pkg/reconciler/optional: informer"},
		{everywhere, "components.dapr.io", "create", "pkg/reconciler/optional: a new object"},
		{everywhere, "components.dapr.io", "update", "pkg/reconciler/optional: a changed object"},
		{everywhere, "components.dapr.io", "delete", "pkg/reconciler/optional: an event that its EventSource has no more"},
		{everywhere, "customresourcedefinitions.apiextensions.k8s.io[scaledobjects.keda.sh]", "list", "pkg/reconciler/optional: is KEDA here?"},
		{everywhere, "customresourcedefinitions.apiextensions.k8s.io[scaledobjects.keda.sh]", "watch", "pkg/reconciler/optional: is KEDA here?"},
		{everywhere, "scaledobjects.keda.sh", "get", "pkg/reconciler/optional: whose is what is in the way?"},
		{everywhere, "scaledobjects.keda.sh", "list", "pkg/reconciler/optional: informer"},
		{everywhere, "scaledobjects.keda.sh", "watch", "pkg/reconciler/optional: informer"},
		{everywhere, "scaledobjects.keda.sh", "create", "pkg/reconciler/optional: a new object"},
		{everywhere, "scaledobjects.keda.sh", "update", "pkg/reconciler/optional: a changed object"},
		{everywhere, "scaledobjects.keda.sh", "delete", "pkg/reconciler/optional: no scaleOption any more"},

		{"openfunction", "configmaps", "get", "sharedmain: settings at start"},
		{"openfunction", "configmaps", "list", "sharedmain: settings that change"},
		{"openfunction", "configmaps", "watch", "sharedmain: settings that change"},
		{"openfunction", "leases.coordination.k8s.io", "get", "leader election"},
		{"openfunction", "leases.coordination.k8s.io", "create", "leader election"},
		{"openfunction", "leases.coordination.k8s.io", "update", "leader election"},
	},
	"events-gateway": {
		{"openfunction", "secrets[events-gateway-plan]", "list", "the plan, as it changes"},
		{"openfunction", "secrets[events-gateway-plan]", "watch", "the plan, as it changes"},
	},
	"events-webhook": {
		{everywhere, "clustereventbuses.events.openfunction.io", "list", "pkg/webhook: whose place a new bus takes"},
		{everywhere, "clustereventbuses.events.openfunction.io", "watch", "pkg/webhook: whose place a new bus takes"},
		{everywhere, "eventbuses.events.openfunction.io", "list", "pkg/webhook: who uses a bus that is to be deleted"},
		{everywhere, "eventbuses.events.openfunction.io", "watch", "pkg/webhook: who uses a bus that is to be deleted"},
		{everywhere, "eventsources.events.openfunction.io", "list", "pkg/webhook: who uses a bus that is to be deleted"},
		{everywhere, "eventsources.events.openfunction.io", "watch", "pkg/webhook: who uses a bus that is to be deleted"},
		{everywhere, "triggers.events.openfunction.io", "list", "pkg/webhook: who uses a bus that is to be deleted"},
		{everywhere, "triggers.events.openfunction.io", "watch", "pkg/webhook: who uses a bus that is to be deleted"},
		{everywhere, "mutatingwebhookconfigurations.admissionregistration.k8s.io", "list", "informer"},
		{everywhere, "mutatingwebhookconfigurations.admissionregistration.k8s.io", "watch", "informer"},
		{everywhere, "validatingwebhookconfigurations.admissionregistration.k8s.io", "list", "informer"},
		{everywhere, "validatingwebhookconfigurations.admissionregistration.k8s.io", "watch", "informer"},
		{everywhere, "mutatingwebhookconfigurations.admissionregistration.k8s.io[webhook.events.openfunction.io]", "update", "its rules, path and certificate"},
		{everywhere, "mutatingwebhookconfigurations.admissionregistration.k8s.io[webhook.events.openfunction.io]", "delete", "where owner references are checked: it is given one"},
		{everywhere, "validatingwebhookconfigurations.admissionregistration.k8s.io[config.webhook.events.openfunction.io]", "update", "its rules, path and certificate"},
		{everywhere, "validatingwebhookconfigurations.admissionregistration.k8s.io[config.webhook.events.openfunction.io]", "delete", "where owner references are checked: it is given one"},
		{everywhere, "validatingwebhookconfigurations.admissionregistration.k8s.io[validation.webhook.events.openfunction.io]", "update", "its rules, path and certificate"},
		{everywhere, "validatingwebhookconfigurations.admissionregistration.k8s.io[validation.webhook.events.openfunction.io]", "delete", "where owner references are checked: it is given one"},
		{everywhere, "namespaces[openfunction]", "get", "the owner of the webhook configurations"},
		{everywhere, "namespaces/finalizers[openfunction]", "update", "where owner references are checked: they have one"},
		{"openfunction", "configmaps", "get", "sharedmain: settings at start"},
		{"openfunction", "configmaps", "list", "sharedmain: settings that change"},
		{"openfunction", "configmaps", "watch", "sharedmain: settings that change"},
		{"openfunction", "secrets", "list", "its certificate: the informer has no selector"},
		{"openfunction", "secrets", "watch", "its certificate: the informer has no selector"},
		{"openfunction", "secrets[events-webhook-certs]", "update", "its certificate, before it expires"},
		{"openfunction", "leases.coordination.k8s.io", "get", "leader election"},
		{"openfunction", "leases.coordination.k8s.io", "create", "leader election"},
		{"openfunction", "leases.coordination.k8s.io", "update", "leader election"},
	},
	"openfunction-events-edit": {
		{everywhere, "eventbuses.events.openfunction.io", "create", "who may edit a namespace"},
		{everywhere, "eventbuses.events.openfunction.io", "update", "who may edit a namespace"},
		{everywhere, "eventbuses.events.openfunction.io", "patch", "who may edit a namespace"},
		{everywhere, "eventbuses.events.openfunction.io", "delete", "who may edit a namespace"},
		{everywhere, "eventbuses.events.openfunction.io", "deletecollection", "who may edit a namespace"},
		{everywhere, "eventsources.events.openfunction.io", "create", "who may edit a namespace"},
		{everywhere, "eventsources.events.openfunction.io", "update", "who may edit a namespace"},
		{everywhere, "eventsources.events.openfunction.io", "patch", "who may edit a namespace"},
		{everywhere, "eventsources.events.openfunction.io", "delete", "who may edit a namespace"},
		{everywhere, "eventsources.events.openfunction.io", "deletecollection", "who may edit a namespace"},
		{everywhere, "triggers.events.openfunction.io", "create", "who may edit a namespace"},
		{everywhere, "triggers.events.openfunction.io", "update", "who may edit a namespace"},
		{everywhere, "triggers.events.openfunction.io", "patch", "who may edit a namespace"},
		{everywhere, "triggers.events.openfunction.io", "delete", "who may edit a namespace"},
		{everywhere, "triggers.events.openfunction.io", "deletecollection", "who may edit a namespace"},
	},
	"openfunction-events-view": {
		{everywhere, "eventbuses.events.openfunction.io", "get", "who may view a namespace"},
		{everywhere, "eventbuses.events.openfunction.io", "list", "who may view a namespace"},
		{everywhere, "eventbuses.events.openfunction.io", "watch", "who may view a namespace"},
		{everywhere, "eventsources.events.openfunction.io", "get", "who may view a namespace"},
		{everywhere, "eventsources.events.openfunction.io", "list", "who may view a namespace"},
		{everywhere, "eventsources.events.openfunction.io", "watch", "who may view a namespace"},
		{everywhere, "triggers.events.openfunction.io", "get", "who may view a namespace"},
		{everywhere, "triggers.events.openfunction.io", "list", "who may view a namespace"},
		{everywhere, "triggers.events.openfunction.io", "watch", "who may view a namespace"},
	},
	"openfunction-events-addressable-resolver": {
		{everywhere, "eventsources.events.openfunction.io", "get", "Knative's controllers: an EventSource is a sink of theirs"},
		{everywhere, "eventsources.events.openfunction.io", "list", "Knative's controllers: an EventSource is a sink of theirs"},
		{everywhere, "eventsources.events.openfunction.io", "watch", "Knative's controllers: an EventSource is a sink of theirs"},
		{everywhere, "eventsources/status.events.openfunction.io", "get", "Knative's controllers: an EventSource is a sink of theirs"},
		{everywhere, "eventsources/status.events.openfunction.io", "list", "Knative's controllers: an EventSource is a sink of theirs"},
		{everywhere, "eventsources/status.events.openfunction.io", "watch", "Knative's controllers: an EventSource is a sink of theirs"},
	},
}

// TestRights compares what is granted with the table, so that neither too much nor too little is silent.
func TestRights(t *testing.T) {
	var want []string
	for who, all := range rights {
		for _, r := range all {
			if r.why == "" {
				t.Errorf("nobody says why %s may %s %s", who, r.verb, r.what)
			}
			want = append(want, right(who, r.where, r.what, r.verb))
		}
	}
	slices.Sort(want)
	got := granted(t)
	slices.Sort(got)
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("what is granted (-) and what the table says is needed (+):\n%s", diff)
	}
}

func right(who, where, what, verb string) string {
	if where != everywhere {
		where = " in " + where
	}
	return fmt.Sprintf("%s may %s %s%s", who, verb, what, where)
}

// granted are the rights of every service account that is bound to a role, and of every ClusterRole that others include by its labels.
func granted(t *testing.T) []string {
	t.Helper()
	clusterRoles, roles := list[rbacv1.ClusterRole](t), list[rbacv1.Role](t)
	var all []string
	for _, b := range list[rbacv1.ClusterRoleBinding](t) {
		role := clusterRoles[b.RoleRef.Name]
		if role == nil {
			t.Fatalf("ClusterRoleBinding %s is to %s %s, which is not shipped", b.Name, b.RoleRef.Kind, b.RoleRef.Name)
		}
		all = append(all, expand(t, subject(t, b.Subjects), everywhere, role.Rules)...)
		delete(clusterRoles, role.Name)
	}
	for _, b := range list[rbacv1.RoleBinding](t) {
		role := roles[b.RoleRef.Name]
		if role == nil || b.RoleRef.Kind != "Role" {
			t.Fatalf("RoleBinding %s is to %s %s, which is not shipped", b.Name, b.RoleRef.Kind, b.RoleRef.Name)
		}
		all = append(all, expand(t, subject(t, b.Subjects), b.Namespace, role.Rules)...)
		delete(roles, role.Name)
	}
	for name, role := range clusterRoles {
		all = append(all, expand(t, name, everywhere, role.Rules)...)
	}
	for name := range roles {
		t.Errorf("Role %s is bound to nobody", name)
	}
	return all
}

func subject(t *testing.T, subjects []rbacv1.Subject) string {
	t.Helper()
	if len(subjects) != 1 || subjects[0].Kind != "ServiceAccount" || subjects[0].Namespace != "openfunction" {
		t.Fatalf("bound to %v, want one service account of ours", subjects)
	}
	return subjects[0].Name
}

func expand(t *testing.T, who, where string, rules []rbacv1.PolicyRule) []string {
	t.Helper()
	var all []string
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				names := slices.Clone(rule.ResourceNames)
				if names == nil {
					names = []string{""}
				}
				for _, name := range names {
					for _, verb := range rule.Verbs {
						all = append(all, right(who, where, what(group, resource, name), verb))
					}
				}
			}
		}
		if len(rule.NonResourceURLs) > 0 {
			t.Errorf("%s may %v %v", who, rule.Verbs, rule.NonResourceURLs)
		}
	}
	return all
}

// what writes a resource as in the table: resource.group[name].
func what(group, resource, name string) string {
	if group != "" {
		resource += "." + group
	}
	if name != "" {
		resource += "[" + name + "]"
	}
	return resource
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
