package config

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/system"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// Store holds the settings as they are now. It is safe for concurrent use.
type Store struct{ untyped *configmap.UntypedStore }

// NewStore returns a store without settings, which calls changed when it has other ones. A change that cannot be read is logged, and the
// settings stay as they are.
func NewStore(log configmap.Logger, changed ...func(name string, value any)) *Store {
	return &Store{configmap.NewUntypedStore("defaults", log, configmap.Constructors{DefaultsName: NewDefaultsFromConfigMap}, changed...)}
}

// Watch keeps the store up to date. Without the ConfigMap of the system's namespace, our own defaults hold if the watcher allows for that.
func (s *Store) Watch(w configmap.Watcher) {
	if defaulting, ok := w.(configmap.DefaultingWatcher); ok {
		none := corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system.Namespace(), Name: DefaultsName}}
		defaulting.WatchWithDefault(none, s.untyped.OnConfigChanged)
		return
	}
	s.untyped.WatchConfigs(w)
}

// ToContext returns a context in which SetDefaults fills in what the settings say.
func (s *Store) ToContext(ctx context.Context) context.Context {
	return v1alpha1.WithDefaults(ctx, s.load())
}

// DeliveryToContext returns a context in which SetDefaults fills in what the settings say of deliveries. Everything else of them is stored
// in objects.
func (s *Store) DeliveryToContext(ctx context.Context) context.Context {
	d := s.load()
	return v1alpha1.WithDefaults(ctx, v1alpha1.Defaults{Retry: d.Retry, Timeout: d.Timeout, BackoffDelay: d.BackoffDelay})
}

func (s *Store) load() v1alpha1.Defaults {
	if d, ok := s.untyped.UntypedLoad(DefaultsName).(*v1alpha1.Defaults); ok {
		return *d
	}
	return v1alpha1.Defaults{}
}
