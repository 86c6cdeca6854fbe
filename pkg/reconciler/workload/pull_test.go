package workload

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPullSecrets(t *testing.T) {
	for value, want := range map[string]PullSecrets{
		"":                     nil,
		" ":                    nil,
		"registry":             {"registry"},
		"registry, mirror.eu ": {"registry", "mirror.eu"},
	} {
		var got PullSecrets
		if err := got.Decode(value); err != nil || !gocmp.Equal(got, want) {
			t.Errorf("%q is %q (%v), want %q", value, got, err, want)
		}
	}
	for value, name := range map[string]string{
		"registry,": `""`, "registry mirror": `"registry mirror"`, "registry,Mirror": `"Mirror"`, "ns/registry": `"ns/registry"`,
	} {
		err := new(PullSecrets).Decode(value)
		if err == nil {
			t.Errorf("%q is taken", value)
			continue
		}
		for _, part := range []string{name + " is no name of a Secret: ", "set IMAGE_PULL_SECRETS of the Deployment events-controller to names with commas between them"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q: %v, want it to say %s", value, err, part)
			}
		}
	}
}

// TestApplyOfPullSecrets changes the setting step by step, and wants one write for each change and none for none.
func TestApplyOfPullSecrets(t *testing.T) {
	l := load("1")
	w := settled(t, l)
	w.change([]string{"deployments"}, func(o metav1.Object) {
		o.(*appsv1.Deployment).Spec.Template.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "other"}}
	})
	for _, step := range []struct {
		setting PullSecrets
		want    []string
		writes  []string
	}{
		{nil, []string{"other"}, nil},
		{PullSecrets{"registry", "mirror"}, []string{"other", "registry", "mirror"}, verbs("update", "deployments")},
		{PullSecrets{"registry", "mirror"}, []string{"other", "registry", "mirror"}, nil},
		{PullSecrets{"mirror", "more"}, []string{"other", "mirror", "more"}, verbs("update", "deployments")},
		{nil, []string{"other"}, verbs("update", "deployments")},
		{nil, []string{"other"}, nil},
	} {
		w.sync()
		w.clients.PullSecrets = step.setting
		_, writes := w.apply(l)
		if diff := gocmp.Diff(writes, step.writes); diff != "" {
			t.Errorf("%q: writes (-got +want):\n%s", step.setting, diff)
		}
		var got []string
		template := w.all()["deployments"][0].(*appsv1.Deployment).Spec.Template
		for _, r := range template.Spec.ImagePullSecrets {
			got = append(got, r.Name)
		}
		if diff := gocmp.Diff(got, step.want); diff != "" {
			t.Errorf("%q: secrets of pods (-got +want):\n%s", step.setting, diff)
		}
		if got, want := template.Annotations[annotationPull], strings.Join(step.setting, ","); got != want {
			t.Errorf("%q: remembered is %q", step.setting, got)
		}
	}
}
