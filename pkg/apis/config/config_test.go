package config

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/configmap"
	logtesting "knative.dev/pkg/logging/testing"
	"knative.dev/pkg/system"
	_ "knative.dev/pkg/system/testing"
	"sigs.k8s.io/yaml"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

func settings(data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system.Namespace(), Name: DefaultsName}, Data: data}
}

func TestDefaultsThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		data map[string]string
		want string
	}{
		{"a key that is not known", map[string]string{"windows": "1s"}, "windows: is not known: use event-bus, window, delivery.retry, delivery.timeout and delivery.backoff-delay"},
		{"a retry that is not a number", map[string]string{"delivery.retry": "often"}, `delivery.retry: "often" is not a number`},
		{"a retry that is too often", map[string]string{"delivery.retry": "1001"}, "delivery.retry: 1001 is out of range: use a number from 0 to 1000"},
		{
			"two mistakes at once", map[string]string{"window": "25h", "delivery.timeout": "PT0S", "event-bus": "ours"},
			"delivery.timeout: PT0S is too short: the least is 1ms\nwindow: 25h is too long: the most is 24h",
		},
		{"a wait that no delivery has", map[string]string{"delivery.backoff-delay": "PT2M"}, "delivery.backoff-delay: PT2M is too long: the most is 1m"},
		{
			"a bus that cannot be", map[string]string{"event-bus": "a.b"},
			`event-bus: "a.b" cannot be a name here, since it becomes part of topics and resource names: use up to 63 lower-case letters, digits and "-", with a letter or digit at both ends`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewDefaultsFromConfigMap(settings(tt.data))
			if err == nil {
				t.Fatal("accepted")
			}
			if diff := cmp.Diff(err.Error(), tt.want); diff != "" {
				t.Errorf("error (-got +want):\n%s", diff)
			}
		})
	}
}

// TestStore follows the settings through their life. Each step has its effect on two objects.
func TestStore(t *testing.T) {
	watcher := &defaultingWatcher{configmap.ManualWatcher{Namespace: system.Namespace()}}
	store := NewStore(logtesting.TestLogger(t))
	store.Watch(watcher)
	const bare = `{eventBus: default, window: 60s, subscribers: [{topic: x}, {topic: z, delivery: {retry: 1}}]}`
	for _, step := range []struct {
		name          string
		data          map[string]string
		trigger, sunk string
	}{
		{"none are there", nil, bare, `{}`},
		{
			"all are set",
			map[string]string{"event-bus": "ours", "window": "PT5S", "delivery.retry": "0", "delivery.timeout": "1s", "delivery.backoff-delay": "PT0S"},
			`{eventBus: ours, window: PT5S, subscribers: [
               {topic: x, delivery: {retry: 0, timeout: 1s, backoffDelay: PT0S}},
               {topic: z, delivery: {retry: 1, timeout: 1s, backoffDelay: PT0S}}]}`,
			`{delivery: {retry: 0, timeout: 1s, backoffDelay: PT0S}}`,
		},
		{
			"they become wrong, so they stay as they were", map[string]string{"window": "often"},
			`{eventBus: ours, window: PT5S, subscribers: [
               {topic: x, delivery: {retry: 0, timeout: 1s, backoffDelay: PT0S}},
               {topic: z, delivery: {retry: 1, timeout: 1s, backoffDelay: PT0S}}]}`,
			`{delivery: {retry: 0, timeout: 1s, backoffDelay: PT0S}}`,
		},
		{
			"one is left", map[string]string{"delivery.retry": "3"},
			`{eventBus: default, window: 60s, subscribers: [{topic: x, delivery: {retry: 3}}, {topic: z, delivery: {retry: 1}}]}`,
			`{delivery: {retry: 3}}`,
		},
		{"none are left", map[string]string{}, bare, `{}`},
	} {
		t.Run(step.name, func(t *testing.T) {
			if step.data != nil {
				watcher.OnChange(settings(step.data))
			}
			ctx := store.ToContext(context.Background())
			one := int32(1)
			trigger := v1alpha1.Trigger{Spec: v1alpha1.TriggerSpec{Subscribers: []v1alpha1.Subscriber{
				{Topic: "x"}, {Topic: "z", Delivery: &v1alpha1.DeliverySpec{Retry: &one}},
			}}}
			trigger.SetDefaults(ctx)
			var want v1alpha1.Trigger
			unmarshal(t, step.trigger, &want.Spec)
			want.SetDefaults(context.Background())
			if diff := cmp.Diff(trigger.Spec, want.Spec); diff != "" {
				t.Errorf("Trigger (-got +want):\n%s", diff)
			}

			var sunk, wantSunk v1alpha1.EventSource
			unmarshal(t, `{uri: "http://s"}`, &sunk.Spec.Sink)
			unmarshal(t, step.sunk, &wantSunk.Spec)
			wantSunk.Spec.Sink = sunk.Spec.Sink.DeepCopy()
			sunk.SetDefaults(ctx)
			if diff := cmp.Diff(sunk.Spec, wantSunk.Spec); diff != "" {
				t.Errorf("EventSource with a sink (-got +want):\n%s", diff)
			}
			var plain v1alpha1.EventSource
			if plain.SetDefaults(ctx); plain.Spec.EventBus != want.Spec.EventBus || plain.Spec.Delivery != nil {
				t.Errorf("EventSource without a sink: %+v, want the bus %s and no delivery", plain.Spec, want.Spec.EventBus)
			}
		})
	}
}

// TestStoreWithoutDefaultingWatcher wants the ConfigMap to be there.
func TestStoreWithoutDefaultingWatcher(t *testing.T) {
	store := NewStore(logtesting.TestLogger(t))
	store.Watch(configmap.NewStaticWatcher(settings(map[string]string{"event-bus": "ours"})))
	var es v1alpha1.EventSource
	if es.SetDefaults(store.ToContext(context.Background())); es.Spec.EventBus != "ours" {
		t.Errorf("bus %q, want ours", es.Spec.EventBus)
	}
}

// defaultingWatcher tells of the default at once, as the watcher of a process does when there is no ConfigMap.
type defaultingWatcher struct{ configmap.ManualWatcher }

var _ configmap.DefaultingWatcher = (*defaultingWatcher)(nil)

func (w *defaultingWatcher) WatchWithDefault(c corev1.ConfigMap, o ...configmap.Observer) {
	w.Watch(c.Name, o...)
	w.OnChange(&c)
}

func unmarshal(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}
