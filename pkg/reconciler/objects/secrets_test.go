package objects_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	metadataclient "k8s.io/client-go/metadata/fake"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/tracker"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/reconciler/objects"
	. "github.com/openfunction/events/pkg/reconciler/testing"
)

// TestASecretThatComes makes whoever names it be looked at again.
func TestASecretThatComes(t *testing.T) {
	for _, tt := range []struct {
		name              string
		object            runtime.Object
		namespace, secret string
		want              string
	}{
		{"of an event", EventSource("shop", "es", WithBus("plain"), WithKafka("orders", "kafka")), "shop", "kafka", "shop/es"},
		{"of an EventSource's bus", EventSource("shop", "es", WithBus("b"), WithCron("tick")), "shop", "nats", "shop/es"},
		{"of a Trigger's bus", Trigger("shop", "t", OnBus("b"), WithInput("a", "", "es", "tick"), WithSubscriber("a", URI("http://sink"))), "shop", "nats", "shop/t"},
		{"of an EventSource's sink", EventSource("shop", "es", WithBus("plain"), WithCron("tick"), WithSink(URIFrom("hook", "url"))), "shop", "hook", "shop/es"},
		{"of a Trigger's sink", Trigger("shop", "t", OnBus("plain"), WithInput("a", "", "es", "tick"), WithSubscriber("a", URIFrom("hook", "url"))), "shop", "hook", "shop/t"},
		{"of an EventBus", EventBus("shop", "b", WithToken("nats")), "shop", "nats", "shop/b"},
		{"of a ClusterEventBus", ClusterEventBus("b", WithToken("nats")), "", "nats", "/b"},
		{"of the servers of an EventBus", EventBus("shop", "e", Embedded), "shop", "eventbus-e", "shop/e"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := NewWorld(t, EventBus("shop", "b", WithToken("nats")), EventBus("shop", "plain"))
			keys := make(chan string, 100)
			r := objects.NewReader(w.Ctx, tracker.New(func(k types.NamespacedName) { keys <- k.String() }, time.Hour))
			w.Run()
			compile(t, w, r, tt.object)
			for len(keys) > 0 {
				<-keys // What is tracked for the first time is looked at again.
			}
			w.Create(Secret(tt.namespace, "another"))
			w.Create(Secret(tt.namespace, tt.secret))
			select {
			case got := <-keys:
				if got != tt.want {
					t.Errorf("looks again at %s, want %s", got, tt.want)
				}
			case <-time.After(30 * time.Second):
				t.Error("nobody looks again")
			}
			if len(keys) > 0 {
				t.Errorf("looks again at %s too", <-keys)
			}
		})
	}
}

func compile(t *testing.T, w *World, r *objects.Reader, o runtime.Object) {
	t.Helper()
	var err error
	switch o := o.(type) {
	case *v1alpha1.EventSource:
		_, err = r.EventSource(w.Ctx, o)
	case *v1alpha1.Trigger:
		_, err = r.Trigger(w.Ctx, o)
	case *v1alpha1.EventBus:
		_, _, err = r.EventBus(w.Ctx, o)
	case *v1alpha1.ClusterEventBus:
		_, _, err = r.ClusterEventBus(w.Ctx, o)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsHeldOfASecret is neither its values, which kubectl apply writes into an annotation, nor anything else that may be large.
func TestWhatIsHeldOfASecret(t *testing.T) {
	s := Secret("shop", "s")
	s.UID, s.ResourceVersion, s.Generation = "u", "1", 0
	want := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: *s.ObjectMeta.DeepCopy()}
	s.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "hunter2"}
	s.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	scheme := metadataclient.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ctx, informer := objects.WithSecrets(ctx, metadataclient.NewSimpleMetadataClient(scheme, &metav1.PartialObjectMetadata{TypeMeta: want.TypeMeta, ObjectMeta: s.ObjectMeta}))
	wait, err := controller.RunInformers(ctx.Done(), informer)
	defer wait()
	defer cancel()
	if err != nil {
		t.Fatal(err)
	}
	got := informer.(cache.SharedIndexInformer).GetStore().List()
	if diff := cmp.Diff([]any{want}, got); diff != "" {
		t.Errorf("held (-want, +got):\n%s", diff)
	}
}
