package workload

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/openfunction/events/pkg/reconciler/child"
)

func (w Workload) fillServiceAccount(a *corev1.ServiceAccount) error {
	child.FillMeta(a, w.labels(), w.Owner)
	a.AutomountServiceAccountToken = new(false) // The Deployment asks for it: other pods are given nothing by mistake.
	return nil
}

// fillRole allows the gateway to follow its plan, and nothing else.
func (w Workload) fillRole(r *rbacv1.Role) error {
	child.FillMeta(r, w.labels(), w.Owner)
	r.Rules = []rbacv1.PolicyRule{{
		APIGroups:     []string{""},
		Resources:     []string{"secrets"},
		ResourceNames: []string{w.Name},
		Verbs:         []string{"get", "list", "watch"},
	}}
	return nil
}

func (w Workload) fillRoleBinding(b *rbacv1.RoleBinding) error {
	child.FillMeta(b, w.labels(), w.Owner)
	b.Subjects = []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: w.namespace(), Name: w.Name}}
	b.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: w.Name}
	return nil
}
