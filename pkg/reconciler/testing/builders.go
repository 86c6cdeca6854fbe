package testing

import (
	"cmp"
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/kmeta"

	"github.com/openfunction/events/pkg/apis/config"
	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

func objectMeta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(namespace + "-" + name), Generation: 1}
}

// EventSource is one with what the options add, and its defaults.
func EventSource(namespace, name string, options ...func(*v1alpha1.EventSource)) *v1alpha1.EventSource {
	es := &v1alpha1.EventSource{ObjectMeta: objectMeta(namespace, name)}
	for _, option := range options {
		option(es)
	}
	es.SetDefaults(context.Background())
	return es
}

// WithHTTP adds an http event.
func WithHTTP(event string) func(*v1alpha1.EventSource) {
	return func(es *v1alpha1.EventSource) { put(&es.Spec.HTTP, event, &v1alpha1.HTTPSpec{}) }
}

// WithCron adds a cron event.
func WithCron(event string) func(*v1alpha1.EventSource) {
	return func(es *v1alpha1.EventSource) { put(&es.Spec.Cron, event, &v1alpha1.CronSpec{Schedule: "@every 5s"}) }
}

// WithKafka adds a kafka event, with its password in a Secret if one is named.
func WithKafka(event, secret string) func(*v1alpha1.EventSource) {
	return func(es *v1alpha1.EventSource) {
		k := &v1alpha1.KafkaSpec{Brokers: "kafka.kafka:9092", Topic: event}
		if secret != "" {
			user := "shop"
			k.AuthRequired, k.SASLUsername, k.SASLPasswordFrom = true, &user, &v1alpha1.SecretKeyRef{Name: secret, Key: "password"}
		}
		put(&es.Spec.Kafka, event, k)
	}
}

// WithMQTT adds an mqtt event for so many members of a group, or without one if there are none.
func WithMQTT(event string, members int32) func(*v1alpha1.EventSource) {
	return func(es *v1alpha1.EventSource) {
		m := &v1alpha1.MQTTSpec{URL: "tcp://mosquitto.mqtt:1883", Topic: event}
		if members > 0 {
			m.Group, m.Replicas = "g", &members
		}
		put(&es.Spec.MQTT, event, m)
	}
}

func put[T any](m *map[string]*T, key string, value *T) {
	if *m == nil {
		*m = map[string]*T{}
	}
	(*m)[key] = value
}

// WithBus names the bus of an EventSource.
func WithBus(name string) func(*v1alpha1.EventSource) {
	return func(es *v1alpha1.EventSource) { es.Spec.EventBus = name }
}

// WithSink sends the events of an EventSource to d too.
func WithSink(d *v1alpha1.Sink) func(*v1alpha1.EventSource) {
	return func(es *v1alpha1.EventSource) { es.Spec.Sink = d }
}

// WithAllowed lets the Triggers of other namespaces use the events.
func WithAllowed(namespaces ...string) func(*v1alpha1.EventSource) {
	return func(es *v1alpha1.EventSource) { es.Spec.AllowedNamespaces = namespaces }
}

// Service refers to a Knative Service.
func Service(namespace, name string) *v1alpha1.Sink {
	return Ref("serving.knative.dev/v1", "Service", namespace, name)
}

// Ref is a sink by reference.
func Ref(apiVersion, kind, namespace, name string) *v1alpha1.Sink {
	return &v1alpha1.Sink{Destination: duckv1.Destination{Ref: &duckv1.KReference{APIVersion: apiVersion, Kind: kind, Namespace: namespace, Name: name}}}
}

// URI is a sink by its address.
func URI(uri string) *v1alpha1.Sink {
	u, err := apis.ParseURL(uri)
	if err != nil {
		panic(err) // a programmer's mistake
	}
	return &v1alpha1.Sink{Destination: duckv1.Destination{URI: u}}
}

// URIFrom is a sink whose address is in a Secret.
func URIFrom(secret, key string) *v1alpha1.Sink {
	return &v1alpha1.Sink{URIFrom: &v1alpha1.SecretKeyRef{Name: secret, Key: key}}
}

// Trigger is one with what the options add, and its defaults.
func Trigger(namespace, name string, options ...func(*v1alpha1.Trigger)) *v1alpha1.Trigger {
	t := &v1alpha1.Trigger{ObjectMeta: objectMeta(namespace, name)}
	for _, option := range options {
		option(t)
	}
	t.SetDefaults(context.Background())
	return t
}

// WithInput adds an input; the namespace may be empty.
func WithInput(name, namespace, eventSource, event string) func(*v1alpha1.Trigger) {
	return func(t *v1alpha1.Trigger) {
		put(&t.Spec.Inputs, name, &v1alpha1.Input{Namespace: namespace, EventSource: eventSource, Event: event})
	}
}

// WithSubscriber adds a subscriber with a sink.
func WithSubscriber(condition string, sink *v1alpha1.Sink) func(*v1alpha1.Trigger) {
	return func(t *v1alpha1.Trigger) {
		t.Spec.Subscribers = append(t.Spec.Subscribers, v1alpha1.Subscriber{Condition: condition, Sink: sink})
	}
}

// OnBus names the bus of a Trigger.
func OnBus(name string) func(*v1alpha1.Trigger) {
	return func(t *v1alpha1.Trigger) { t.Spec.EventBus = name }
}

// EventBus is a JetStream bus that answers, unless an option says otherwise, with its defaults.
func EventBus(namespace, name string, options ...func(*v1alpha1.EventBusSpec, *v1alpha1.EventBusStatus)) *v1alpha1.EventBus {
	b := &v1alpha1.EventBus{ObjectMeta: objectMeta(namespace, name)}
	jetStream(&b.Spec, &b.Status, options)
	b.SetDefaults(context.Background())
	return b
}

// ClusterEventBus is a JetStream bus that answers, unless an option says otherwise, with its defaults.
func ClusterEventBus(name string, options ...func(*v1alpha1.EventBusSpec, *v1alpha1.EventBusStatus)) *v1alpha1.ClusterEventBus {
	b := &v1alpha1.ClusterEventBus{ObjectMeta: objectMeta("", name)}
	jetStream(&b.Spec, &b.Status, options)
	b.SetDefaults(context.Background())
	return b
}

func jetStream(spec *v1alpha1.EventBusSpec, status *v1alpha1.EventBusStatus, options []func(*v1alpha1.EventBusSpec, *v1alpha1.EventBusStatus)) {
	spec.JetStream = &v1alpha1.JetStreamSpec{URL: "nats://nats.nats:4222"}
	status.MarkReachable()
	for _, option := range options {
		option(spec, status)
	}
}

// Embedded makes the bus one that brings its servers.
func Embedded(spec *v1alpha1.EventBusSpec, _ *v1alpha1.EventBusStatus) {
	*spec = v1alpha1.EventBusSpec{Embedded: &v1alpha1.EmbeddedSpec{}}
}

// NATSStreaming makes the bus one on NATS Streaming with subscriptions of this type, queue or topic.
func NATSStreaming(subscriptionType string) func(*v1alpha1.EventBusSpec, *v1alpha1.EventBusStatus) {
	return func(spec *v1alpha1.EventBusSpec, _ *v1alpha1.EventBusStatus) {
		*spec = v1alpha1.EventBusSpec{NATSStreaming: &v1alpha1.NATSStreamingSpec{
			NATSURL: "nats://stan:4222", NATSStreamingClusterID: "stan", SubscriptionType: subscriptionType,
		}}
	}
}

// WithURL gives the bus another URL.
func WithURL(url string) func(*v1alpha1.EventBusSpec, *v1alpha1.EventBusStatus) {
	return func(spec *v1alpha1.EventBusSpec, _ *v1alpha1.EventBusStatus) { spec.JetStream.URL = url }
}

// WithToken reads the bus's token from a Secret.
func WithToken(secret string) func(*v1alpha1.EventBusSpec, *v1alpha1.EventBusStatus) {
	return func(spec *v1alpha1.EventBusSpec, _ *v1alpha1.EventBusStatus) {
		spec.JetStream.TokenFrom = &v1alpha1.SecretKeyRef{Name: secret, Key: "token"}
	}
}

// Unreachable makes the bus one that does not answer.
func Unreachable(_ *v1alpha1.EventBusSpec, status *v1alpha1.EventBusStatus) {
	status.MarkUnreachable("Unreachable", "dial nats.nats:4222: refused")
}

// Waiting makes the bus one that is being looked at.
func Waiting(_ *v1alpha1.EventBusSpec, status *v1alpha1.EventBusStatus) {
	status.MarkWaiting("the shared gateway has no pod")
}

// Unknown makes the bus one of which nothing is known yet.
func Unknown(_ *v1alpha1.EventBusSpec, status *v1alpha1.EventBusStatus) {
	*status = v1alpha1.EventBusStatus{}
}

// Secret is one with a password and a token.
func Secret(namespace, name string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: objectMeta(cmp.Or(namespace, "openfunction"), name),
		Data:       map[string][]byte{"password": []byte("hunter2"), "token": []byte("t0ken")},
	}
}

// Servers is the Secret of the servers of a bus with spec.embedded.
func Servers(namespace, name string) *corev1.Secret {
	s := Secret(namespace, name)
	s.Data = map[string][]byte{"username": []byte("user"), "password": []byte("hunter2"), "ca.crt": []byte("CA")}
	return s
}

// Addressable is a Knative Service of which the URL is known. Without a URL it is not.
func Addressable(namespace, name, url string) *unstructured.Unstructured {
	u := dynamicObject(schema.GroupVersionKind{Group: "serving.knative.dev", Version: "v1", Kind: "Service"}, namespace, name)
	if url != "" {
		_ = unstructured.SetNestedField(u.Object, url, "status", "address", "url") // the path is free
	}
	return u
}

// KubernetesService is a Service that has a cluster IP.
func KubernetesService(namespace, name string) *unstructured.Unstructured {
	return dynamicObject(schema.GroupVersionKind{Version: "v1", Kind: "Service"}, namespace, name)
}

func dynamicObject(kind schema.GroupVersionKind, namespace, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

// Child is a Deployment of one of owner's workloads.
func Child(owner kmeta.OwnerRefable, component string) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: objectMeta(owner.GetObjectMeta().GetNamespace(), "child")}
	d.OwnerReferences = []metav1.OwnerReference{*kmeta.NewControllerRef(owner)}
	d.Labels = map[string]string{"app.kubernetes.io/name": "openfunction-events", "app.kubernetes.io/component": component}
	return d
}

// Settings is the ConfigMap of a cluster's defaults with one of them.
func Settings(key, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: config.DefaultsName}, Data: map[string]string{key: value}}
}
