package config

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/leaderelection"
	"knative.dev/pkg/logging"
	o11yconfigmap "knative.dev/pkg/observability/configmap"

	settings "github.com/openfunction/events/pkg/apis/config"
	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// TestSettings reads each ConfigMap with the code of the processes that use it.
func TestSettings(t *testing.T) {
	maps := list[corev1.ConfigMap](t)
	read := map[string]func(*corev1.ConfigMap) error{
		logging.ConfigMapName():        reads(logging.NewConfigFromConfigMap),
		leaderelection.ConfigMapName(): reads(leaderelection.NewConfigFromConfigMap),
		o11yconfigmap.Name():           reads(o11yconfigmap.Parse),
		settings.DefaultsName:          reads(settings.NewDefaultsFromConfigMap),
	}
	for name, c := range maps {
		if read[name] == nil {
			t.Errorf("nobody reads %s", name)
		} else if err := read[name](c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		delete(read, name)
	}
	for name := range read {
		t.Errorf("%s is not shipped", name)
	}
}

func reads[T any](parse func(*corev1.ConfigMap) (T, error)) func(*corev1.ConfigMap) error {
	return func(c *corev1.ConfigMap) error {
		_, err := parse(c)
		return err
	}
}

// TestShippedDefaultsAreOurOwn wants objects to mean the same in a cluster and on a laptop until somebody decides otherwise.
func TestShippedDefaultsAreOurOwn(t *testing.T) {
	d, err := settings.NewDefaultsFromConfigMap(list[corev1.ConfigMap](t)[settings.DefaultsName])
	if err != nil {
		t.Fatal(err)
	}
	var trigger v1alpha1.Trigger
	trigger.SetDefaults(t.Context())
	if want := (v1alpha1.Defaults{EventBus: trigger.Spec.EventBus, Window: trigger.Spec.Window}); *d != want {
		t.Errorf("got %+v, want %+v", *d, want)
	}
}
