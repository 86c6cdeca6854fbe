package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// TestWhoMayConnect computes from the policies who reaches which ports, as the network does.
func TestWhoMayConnect(t *testing.T) {
	want := map[string][]string{
		"events-controller": {"9090 from everywhere"},
		"events-gateway":    {"8080 from everywhere", "8081 from controller", "9090 from everywhere"},
		"events-webhook":    {"8443 from everywhere", "9090 from everywhere"},
		// Those of EventSources and Triggers in our namespace, which the controller makes.
		"eventsource": {"8081 from controller", "9090 from everywhere"},
		"trigger":     {"8081 from controller", "9090 from everywhere"},
		// The servers of buses in our namespace, which the controller makes.
		"clustereventbus": {"4222 from everywhere", "6222 from clustereventbus"},
		"eventbus":        {"4222 from everywhere", "6222 from eventbus"},
	}
	pods := list[appsv1.Deployment](t)
	for _, component := range []string{"eventsource", "trigger", "eventbus", "clustereventbus"} {
		d := &appsv1.Deployment{}
		d.Spec.Template.Labels = map[string]string{"app.kubernetes.io/name": "openfunction-events", "app.kubernetes.io/component": component}
		pods[component] = d
	}
	got := map[string][]string{}
	for name, d := range pods {
		denied := false
		for _, p := range list[networkingv1.NetworkPolicy](t) {
			if !selects(t, &p.Spec.PodSelector, d) {
				continue
			}
			if !slices.Equal(p.Spec.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}) {
				t.Errorf("%s is about %v, want Ingress only", p.Name, p.Spec.PolicyTypes)
			}
			denied = denied || len(p.Spec.Ingress) == 0
			for _, rule := range p.Spec.Ingress {
				got[name] = append(got[name], allowed(t, rule)...)
			}
		}
		if !denied {
			t.Errorf("no policy keeps everybody from %s", name)
		}
		slices.Sort(got[name])
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("who may connect (-got +want):\n%s", diff)
	}
}

func allowed(t *testing.T, rule networkingv1.NetworkPolicyIngressRule) []string {
	t.Helper()
	from := "everywhere"
	for _, peer := range rule.From {
		if peer.NamespaceSelector != nil || peer.IPBlock != nil {
			t.Errorf("the test does not know %+v", peer)
		}
		from = peer.PodSelector.MatchLabels["app.kubernetes.io/component"]
	}
	var all []string
	for _, port := range rule.Ports {
		all = append(all, fmt.Sprintf("%s from %s", port.Port, from))
	}
	if len(all) == 0 {
		t.Error("a rule allows every port")
	}
	return all
}

// TestOthersAreNotConcerned wants the policies to leave alone pods of others in the namespace.
func TestOthersAreNotConcerned(t *testing.T) {
	others := &appsv1.Deployment{}
	others.Spec.Template.Labels = map[string]string{"app.kubernetes.io/name": "openfunction", "app.kubernetes.io/component": "controller"}
	var concern []string
	for name, p := range list[networkingv1.NetworkPolicy](t) {
		if selects(t, &p.Spec.PodSelector, others) {
			concern = append(concern, name)
		}
	}
	if concern != nil {
		t.Errorf("pods of others are concerned by %s", strings.Join(concern, ", "))
	}
}
