package config

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// logged is a request that needs a right, as an API server logs it.
func logged(r Right, edit func(*auditEvent)) []byte {
	var e auditEvent
	namespace, account, _ := strings.Cut(r.Account, "/")
	e.User.Username, e.Verb = "system:serviceaccount:"+namespace+":"+account, r.Verb
	resource := schema.ParseGroupResource(r.Resource)
	e.ObjectRef.APIGroup, e.ObjectRef.Namespace, e.ObjectRef.Name = resource.Group, r.Namespace, r.Name
	e.ObjectRef.Resource, e.ObjectRef.Subresource, _ = strings.Cut(resource.Resource, "/")
	e.ResponseStatus.Code, e.Annotations = 200, map[string]string{"authorization.k8s.io/decision": "allow"}
	if edit != nil {
		edit(&e)
	}
	line, err := json.Marshal(&e)
	if err != nil {
		panic(err)
	}
	return append(line, '\n')
}

// TestAudit asks for all that is granted, except for one thing.
func TestAudit(t *testing.T) {
	forbidden := func(e *auditEvent) {
		e.ResponseStatus.Code, e.Annotations = 403, map[string]string{"authorization.k8s.io/decision": "forbid"}
	}
	refused := func(message string) func(*auditEvent) {
		return func(e *auditEvent) { e.ResponseStatus.Code, e.ResponseStatus.Message = 403, message }
	}
	controller := Right{Account: "openfunction/events-controller", Namespace: "shop", Verb: "update", Resource: "deployments.apps", Name: "trigger-t"}
	elsewhere, other, own, lease := controller, controller, controller, controller
	elsewhere.Namespace = ours
	other.Verb = "patch"
	own.Account, own.Verb, own.Resource = "shop/trigger-t", "get", "secrets"
	lease.Namespace, lease.Resource = "kube-system", "leases.coordination.k8s.io"
	stranger := own
	stranger.Name = "another"
	const updates = "ClusterRole openfunction-events-controller lets openfunction/events-controller update deployments.apps, and no request has used that"
	tests := []struct {
		name string
		log  []byte
		want []string
	}{
		{"everything is used", logged(controller, nil), nil},
		{"nobody updates Deployments", nil, []string{updates}},
		{"Deployments are updated in our namespace only", logged(elsewhere, nil), []string{updates}},
		{"only a line that is cut says so", logged(controller, nil)[:200], []string{updates}},
		{"it is answered that there is none", logged(controller, func(e *auditEvent) { e.ResponseStatus.Code = 404 }), nil},
		{"what is granted is forbidden meanwhile", slices.Concat(logged(controller, forbidden), logged(controller, nil)), nil},
		{"another verb is needed", slices.Concat(logged(controller, nil), logged(other, forbidden)),
			[]string{"openfunction/events-controller patch deployments.apps trigger-t in shop: was asked for, and no role allows it"}},
		{"another namespace is needed", slices.Concat(logged(controller, nil), logged(lease, forbidden)),
			[]string{"openfunction/events-controller update leases.coordination.k8s.io trigger-t in kube-system: was asked for, and no role allows it"}},
		{"a gateway looks for its Secret when its Role is gone", slices.Concat(logged(controller, nil), logged(own, forbidden)), nil},
		{"a gateway wants the Secret of another", slices.Concat(logged(controller, nil), logged(stranger, forbidden)),
			[]string{"a workload get secrets another in its namespace: was asked for, and no role allows it"}},
		{"an owner is protected", slices.Concat(logged(controller, nil), logged(controller, refused("no finalizers for you"))),
			[]string{"openfunction/events-controller update deployments.apps trigger-t in shop: was refused: no finalizers for you"}},
		{"a namespace goes", slices.Concat(logged(controller, nil), logged(controller, refused("x is forbidden: unable to create new content in namespace y because it is being terminated"))), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := NewAudit(t)
			for _, r := range a.rights {
				_, unseen := unseen[r.Account+" "+r.String()]
				if r.Account == "a workload" {
					r.Account, r.Namespace, r.Name = "shop/trigger-t", "shop", "trigger-t"
				}
				if r.Account != "" && !unseen && !r.allows(controller) {
					a.Read(logged(r, nil))
				}
			}
			a.Read(tt.log)
			if diff := cmp.Diff(a.Faults(), tt.want); diff != "" {
				t.Errorf("faults (-got +want):\n%s", diff)
			}
		})
	}
}
