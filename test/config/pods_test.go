package config

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func TestDeployments(t *testing.T) {
	deployments := list[appsv1.Deployment](t)
	want := []string{"events-controller", "events-gateway", "events-webhook"}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(deployments)), want); diff != "" {
		t.Errorf("Deployments (-got +want):\n%s", diff)
	}
	// A namespace that is deleted while pods end looks again after half of the longest of these. The gateway has ended by its first look, unless
	// deliveries are under way; the webhook never has.
	graces := map[string]int64{"events-controller": 30, "events-gateway": 60, "events-webhook": 30}
	cpu, memory, pods := resource.Quantity{}, resource.Quantity{}, int32(0)
	for name, d := range deployments {
		t.Run(name, func(t *testing.T) {
			pod := d.Spec.Template
			if !maps.Equal(pod.Labels, d.Labels) || !maps.Equal(d.Spec.Selector.MatchLabels, d.Labels) {
				t.Errorf("labels are %v, of pods %v, selected %v: they are to be the same", d.Labels, pod.Labels, d.Spec.Selector.MatchLabels)
			}
			if pod.Spec.ServiceAccountName != name || !deref(pod.Spec.AutomountServiceAccountToken, false) {
				t.Errorf("runs as %q, want the service account %s with its token mounted", pod.Spec.ServiceAccountName, name)
			}
			if a := pod.Spec.Affinity; a == nil || a.PodAntiAffinity == nil {
				t.Error("its pods may all be on one node")
			}
			if grace := deref(pod.Spec.TerminationGracePeriodSeconds, 30); grace > graces[name] {
				t.Errorf("its pods may take %d s to end, want %d at most", grace, graces[name])
			}
			checkPod(t, pod.Spec)
		})
		replicas := deref(d.Spec.Replicas, 1)
		pods += replicas
		for _, c := range d.Spec.Template.Spec.Containers {
			for range replicas {
				cpu.Add(*c.Resources.Requests.Cpu())
				memory.Add(*c.Resources.Requests.Memory())
			}
		}
	}
	if pods != 3 || cpu.Cmp(resource.MustParse("150m")) > 0 || memory.Cmp(resource.MustParse("128Mi")) > 0 {
		t.Errorf("at rest there are %d pods that request %s CPU and %s memory, want 3 with at most 150m and 128Mi", pods, &cpu, &memory)
	}
}

// checkPod wants what the pod security standard "restricted" does, and more.
func checkPod(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	if pod.HostNetwork || pod.HostPID || pod.HostIPC {
		t.Error("is in the namespaces of its node")
	}
	for _, v := range pod.Volumes {
		if v.HostPath != nil {
			t.Errorf("volume %s is a directory of the node", v.Name)
		}
	}
	if s := pod.SecurityContext; s == nil || !deref(s.RunAsNonRoot, false) || s.SeccompProfile == nil {
		t.Errorf("the security context of the pod is %v", s)
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		want := &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true), RunAsNonRoot: new(true),
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
		if diff := cmp.Diff(c.SecurityContext, want); diff != "" {
			t.Errorf("security context of %s (-got +want):\n%s", c.Name, diff)
		}
		if c.ReadinessProbe == nil || c.LivenessProbe == nil || c.ReadinessProbe.HTTPGet == nil || c.LivenessProbe.HTTPGet == nil {
			t.Errorf("%s has no probes", c.Name)
		}
		if r := c.Resources; r.Requests.Cpu().IsZero() || r.Requests.Memory().IsZero() || r.Limits.Memory().IsZero() {
			t.Errorf("%s requests %v and is limited to %v", c.Name, r.Requests, r.Limits)
		}
		if !strings.HasPrefix(c.Image, "ko://github.com/openfunction/events/cmd/") {
			t.Errorf("the image of %s is %s: releases replace ko:// and nothing else", c.Name, c.Image)
		}
	}
}

func TestServiceAccountsHaveNoTokenByDefault(t *testing.T) {
	for name, sa := range list[corev1.ServiceAccount](t) {
		if deref(sa.AutomountServiceAccountToken, true) {
			t.Errorf("%s: any pod would get its token", name)
		}
	}
}

// TestDisruption wants nodes to be drained one pod at a time, even when a pod does not work.
func TestDisruption(t *testing.T) {
	budgets := list[policyv1.PodDisruptionBudget](t)
	for name, d := range list[appsv1.Deployment](t) {
		b := budgets[name]
		if b == nil {
			t.Errorf("%s has no PodDisruptionBudget", name)
			continue
		}
		if !selects(t, b.Spec.Selector, d) || b.Spec.MaxUnavailable.IntValue() != 1 ||
			deref(b.Spec.UnhealthyPodEvictionPolicy, "") != policyv1.AlwaysAllow {
			t.Errorf("the PodDisruptionBudget of %s is %+v", name, b.Spec)
		}
	}
}

func TestScaling(t *testing.T) {
	scalers := list[autoscalingv2.HorizontalPodAutoscaler](t)
	if got, want := slices.Sorted(maps.Keys(scalers)), []string{"events-gateway", "events-webhook"}; !slices.Equal(got, want) {
		t.Errorf("HorizontalPodAutoscalers %v, want %v", got, want)
	}
	deployments := list[appsv1.Deployment](t)
	for name, s := range scalers {
		if s.Spec.ScaleTargetRef != (autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name}) {
			t.Errorf("%s scales %v", name, s.Spec.ScaleTargetRef)
		}
		if deref(s.Spec.MinReplicas, 0) != 1 || s.Spec.MaxReplicas < 2 || len(s.Spec.Metrics) == 0 {
			t.Errorf("%s scales from %d to %d by %d metrics", name, *s.Spec.MinReplicas, s.Spec.MaxReplicas, len(s.Spec.Metrics))
		}
		if deployments[name].Spec.Replicas != nil {
			t.Errorf("Deployment %s says how many replicas there are: whoever applies it again undoes the scaling", name)
		}
	}
}

// TestServices wants a Service to lead to ports that the pods of its name have.
func TestServices(t *testing.T) {
	deployments := list[appsv1.Deployment](t)
	for name, s := range list[corev1.Service](t) {
		d := deployments[name]
		if d == nil || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels)) {
			t.Errorf("Service %s does not select the pods of its Deployment", name)
			continue
		}
		for _, p := range s.Spec.Ports {
			if !slices.ContainsFunc(ports(d), func(c corev1.ContainerPort) bool {
				return p.TargetPort.StrVal == c.Name || p.TargetPort.IntVal == c.ContainerPort
			}) {
				t.Errorf("Service %s leads to the port %s, which no container has", name, &p.TargetPort)
			}
		}
	}
	gateway := list[corev1.Service](t)["events-gateway"]
	if gateway == nil || gateway.Spec.Ports[0].Port != 80 || gateway.Spec.Ports[0].TargetPort.StrVal != "http" {
		t.Errorf("Service events-gateway is %+v, want its port 80 to be http", gateway)
	}
}

// TestGateway holds together what the manifest of the shared gateway says of its plan in four places.
func TestGateway(t *testing.T) {
	d := list[appsv1.Deployment](t)["events-gateway"]
	c, v := d.Spec.Template.Spec.Containers[0], d.Spec.Template.Spec.Volumes[0]
	if v.Secret == nil || v.Secret.SecretName != "events-gateway-plan" || !deref(v.Secret.Optional, false) {
		t.Errorf("its volume is %+v, want the Secret events-gateway-plan, which need not be there", v)
	}
	want := map[string]string{
		"POD_NAME": "metadata.name", "NAMESPACE": "metadata.namespace",
		"PLAN_SECRET": "$(NAMESPACE)/" + v.Secret.SecretName, "PLAN_FILE": c.VolumeMounts[0].MountPath + "/plan.json.gz",
		"LISTEN": ":8080", "ADMIN_LISTEN": ":8081", "METRICS_LISTEN": ":9090", "READY": "serving", "GOMEMLIMIT": "440MiB", "LOG_LEVEL": "info",
	}
	if diff := cmp.Diff(environment(c), want); diff != "" {
		t.Errorf("environment (-got +want):\n%s", diff)
	}
	if u := d.Spec.Strategy.RollingUpdate; u.MaxUnavailable.IntValue() != 0 || u.MaxSurge.IntValue() != 1 {
		t.Errorf("it is updated by %+v, want never less than one", u)
	}
}

func TestController(t *testing.T) {
	deployments := list[appsv1.Deployment](t)
	got := environment(deployments["events-controller"].Spec.Template.Spec.Containers[0])
	want := map[string]string{
		"POD_NAME": "metadata.name", "SYSTEM_NAMESPACE": "metadata.namespace",
		"GATEWAY_IMAGE": deployments["events-gateway"].Spec.Template.Spec.Containers[0].Image,
		"BUS_IMAGE":     "ko://github.com/openfunction/events/cmd/bus",
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("environment (-got +want):\n%s", diff)
	}
}

// environment has the path of a field in place of its value.
func environment(c corev1.Container) map[string]string {
	all := map[string]string{}
	for _, e := range c.Env {
		all[e.Name] = e.Value
		if e.ValueFrom != nil {
			all[e.Name] = e.ValueFrom.FieldRef.FieldPath
		}
	}
	return all
}

func ports(d *appsv1.Deployment) []corev1.ContainerPort {
	var all []corev1.ContainerPort
	for _, c := range d.Spec.Template.Spec.Containers {
		all = append(all, c.Ports...)
	}
	return all
}

func selects(t *testing.T, selector *metav1.LabelSelector, d *appsv1.Deployment) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(labels.Set(d.Spec.Template.Labels))
}

func deref[T any](p *T, byDefault T) T {
	if p == nil {
		return byDefault
	}
	return *p
}
