package config

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Right is what a role lets an account do, or what an account asked for.
type Right struct {
	// Role is kind and name of who grants it.
	Role string
	// Account is a service account, as namespace/name; empty if the role is for others.
	Account string
	// Namespace is where the right counts; empty means everywhere.
	Namespace string
	// Resource is resource.group or resource/subresource.group.
	Verb, Resource string
	// Name is of the one object that the right is to; empty means all.
	Name string
}

func (r Right) String() string {
	s := r.Verb + " " + r.Resource
	if r.Name != "" {
		s += " " + r.Name
	}
	if r.Namespace != "" {
		s += " in " + r.Namespace
	}
	return s
}

// allows tells whether the right suffices for what was asked.
func (r Right) allows(asked Right) bool {
	return r.Account == asked.Account && r.Verb == asked.Verb && r.Resource == asked.Resource &&
		(r.Name == "" || r.Name == asked.Name) && (r.Namespace == "" || r.Namespace == asked.Namespace)
}

// ours is the namespace of what config/ ships.
const ours = "openfunction"

// general gives all accounts in other namespaces than ours, which are those that the controller makes for gateways, one name.
func (r Right) general() Right {
	namespace, name, _ := strings.Cut(r.Account, "/")
	if namespace == ours || r.Account == "" {
		return r
	}
	r.Account = "a workload"
	if r.Namespace == namespace {
		r.Namespace = "its namespace"
	}
	if r.Name == name {
		r.Name = "of its name"
	}
	return r
}

// Rights are those that config/ grants, and those that the controller grants to each workload. What counts everywhere comes first.
func Rights(t testing.TB) []Right {
	t.Helper()
	all := granted(t, shipped(t))
	for _, r := range granted(t, documents(t, root+"pkg/reconciler/workload/testdata/trigger.yaml")) {
		all = append(all, r.general())
	}
	slices.SortStableFunc(all, func(a, b Right) int { return cmp.Compare(a.Namespace, b.Namespace) })
	return all
}

// granted are the rights of every service account that is bound to a role, and of every ClusterRole that is bound to nobody, for others.
func granted(t testing.TB, objects []*unstructured.Unstructured) []Right {
	t.Helper()
	rules, bound := map[string][]rbacv1.PolicyRule{}, map[string]bool{}
	var all []Right
	bind := func(namespace string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		t.Helper()
		if ref.Kind == "Role" {
			ref.Name = namespace + "/" + ref.Name
		}
		role := ref.Kind + " " + ref.Name
		if _, ok := rules[role]; !ok || bound[role] {
			t.Fatalf("%s is bound to, and is not there before, or bound twice", role)
		}
		bound[role] = true
		if len(subjects) != 1 || subjects[0].Kind != "ServiceAccount" {
			t.Fatalf("%s is bound to %v, want one service account", role, subjects)
		}
		right := Right{Role: role, Account: subjects[0].Namespace + "/" + subjects[0].Name, Namespace: namespace}
		all = append(all, right.expand(t, rules[role])...)
	}
	for _, o := range objects {
		switch o := decode(t, o).(type) {
		case *rbacv1.ClusterRole:
			rules["ClusterRole "+o.Name] = o.Rules
		case *rbacv1.Role:
			rules["Role "+o.Namespace+"/"+o.Name] = o.Rules
		case *rbacv1.ClusterRoleBinding:
			bind("", o.RoleRef, o.Subjects)
		case *rbacv1.RoleBinding:
			bind(o.Namespace, o.RoleRef, o.Subjects)
		}
	}
	for role, rules := range rules {
		if bound[role] {
			continue
		}
		if strings.HasPrefix(role, "Role ") {
			t.Errorf("%s is bound to nobody", role)
		}
		all = append(all, Right{Role: role}.expand(t, rules)...)
	}
	return all
}

// expand are the single rights of rules, which are like r otherwise.
func (r Right) expand(t testing.TB, rules []rbacv1.PolicyRule) []Right {
	t.Helper()
	var all []Right
	for _, rule := range rules {
		if len(rule.NonResourceURLs) > 0 {
			t.Errorf("%s may %v %v", r.Role, rule.Verbs, rule.NonResourceURLs)
		}
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				r.Resource = schema.GroupResource{Group: group, Resource: resource}.String()
				for _, r.Name = range names {
					for _, r.Verb = range rule.Verbs {
						all = append(all, r)
					}
				}
			}
		}
	}
	return all
}
