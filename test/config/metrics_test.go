package config

import (
	"os"
	"regexp"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// TestThePodMonitorOfThePage wants what docs/metrics.md tells to apply to find the metrics of all our Deployments.
func TestThePodMonitorOfThePage(t *testing.T) {
	page, err := os.ReadFile(root + "docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```\n(apiVersion: monitoring.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("docs/metrics.md has no PodMonitor")
	}
	var monitor struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              struct {
			NamespaceSelector   struct{ Any bool }
			Selector            metav1.LabelSelector
			PodMetricsEndpoints []struct {
				Port        string
				HonorLabels bool
			}
		}
	}
	if err := yaml.UnmarshalStrict(block[1], &monitor); err != nil {
		t.Fatal(err)
	}
	if len(monitor.Spec.PodMetricsEndpoints) != 1 || !monitor.Spec.PodMetricsEndpoints[0].HonorLabels || !monitor.Spec.NamespaceSelector.Any {
		t.Fatalf("PodMonitor %+v", monitor.Spec)
	}
	for name, d := range list[appsv1.Deployment](t) {
		if !selects(t, &monitor.Spec.Selector, d) {
			t.Errorf("the PodMonitor does not select %s", name)
		}
		served := false
		for _, p := range d.Spec.Template.Spec.Containers[0].Ports {
			served = served || p.Name == monitor.Spec.PodMetricsEndpoints[0].Port && p.ContainerPort == 9090
		}
		if !served {
			t.Errorf("%s has no port %s, 9090", name, monitor.Spec.PodMetricsEndpoints[0].Port)
		}
	}
}
