package workload

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kubeclient "knative.dev/pkg/client/injection/kube/client/fake"
	_ "knative.dev/pkg/client/injection/kube/informers/apps/v1/deployment/filtered/fake"
	_ "knative.dev/pkg/client/injection/kube/informers/core/v1/pod/filtered/fake"
	_ "knative.dev/pkg/client/injection/kube/informers/core/v1/secret/filtered/fake"
	_ "knative.dev/pkg/client/injection/kube/informers/core/v1/serviceaccount/filtered/fake"
	_ "knative.dev/pkg/client/injection/kube/informers/factory/filtered/fake"
	_ "knative.dev/pkg/client/injection/kube/informers/rbac/v1/role/filtered/fake"
	_ "knative.dev/pkg/client/injection/kube/informers/rbac/v1/rolebinding/filtered/fake"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	rt "knative.dev/pkg/reconciler/testing"

	"github.com/openfunction/events/pkg/reconciler/child"
)

// nothing reconciles nothing.
type nothing struct{}

func (nothing) Reconcile(context.Context, string) error { return nil }

// TestWatch runs the informers, and wants one owner in the queue for each child or pod that comes or goes.
func TestWatch(t *testing.T) {
	t.Setenv("GATEWAY_IMAGE", "gateway:v1")
	t.Setenv("IMAGE_PULL_SECRETS", "registry")
	ctx, cancel, informers := rt.SetupFakeContextWithCancel(t, WithSelectors)
	c := NewClients(ctx)
	if c.Image != "gateway:v1" || len(c.PullSecrets) != 1 || c.PullSecrets[0] != "registry" {
		t.Errorf("image = %q, pulled with %q, want those of the environment", c.Image, c.PullSecrets)
	}
	impl := controller.NewContext(ctx, nothing{}, controller.ControllerOptions{WorkQueueName: "test", Logger: logging.FromContext(ctx)})
	c.Watch(ctx, "trigger", impl)
	wait, err := rt.RunAndSyncInformers(ctx, informers...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		wait()
		impl.WorkQueue().ShutDown()
	})
	queue := make(chan any)
	go func() {
		for {
			key, shutdown := impl.WorkQueue().Get()
			if shutdown {
				return
			}
			impl.WorkQueue().Done(key)
			queue <- key
		}
	}()
	queued := func(why string) {
		t.Helper()
		select {
		case got := <-queue:
			if want := (types.NamespacedName{Namespace: "d", Name: "t"}); got != want {
				t.Errorf("%s: queued %v, want %s", why, got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: nothing is queued", why)
		}
	}

	ours, others := load("1"), load("1")
	others.Component = "eventsource"
	others.Owner.GetObjectMeta().SetName("another")
	core, rbac := kubeclient.Get(ctx).CoreV1(), kubeclient.Get(ctx).RbacV1()
	comes(ctx, t, kubeclient.Get(ctx).AppsV1().Deployments("d"), ours, others, queued)
	comes(ctx, t, core.Secrets("d"), ours, others, queued)
	comes(ctx, t, core.ServiceAccounts("d"), ours, others, queued)
	comes(ctx, t, rbac.Roles("d"), ours, others, queued)
	comes(ctx, t, rbac.RoleBindings("d"), ours, others, queued)
	comes(ctx, t, core.Pods("d"), ours, others, queued)
	if err := core.Pods("d").Delete(ctx, ours.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	queued("a pod goes")
	if err := core.Secrets("d").Delete(ctx, ours.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	queued("a Secret goes")
	// The pod of a Deployment that is gone knows who waits for its end.
	if err := kubeclient.Get(ctx).AppsV1().Deployments("d").Delete(ctx, ours.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	queued("a Deployment goes")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "last", Labels: ours.labels()}}
	if _, err := core.Pods("d").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	queued("a pod is there still")
	if err := core.Pods("d").Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	queued("the last pod goes")
}

// comes creates an object of others, of which nothing must be heard, and then one of ours.
func comes[T any, P child.Object[T]](ctx context.Context, t *testing.T, api child.Client[T], ours, others Workload, queued func(string)) {
	t.Helper()
	for _, w := range []Workload{others, ours} {
		o := P(new(T))
		o.SetNamespace("d")
		o.SetName(w.Name)
		if w.Component == others.Component {
			o.SetName("other")
		}
		child.FillMeta(o, w.labels(), w.Owner)
		if _, isPod := any(o).(*corev1.Pod); isPod {
			o.SetOwnerReferences(nil) // a ReplicaSet's it would be
		}
		if _, err := api.Create(ctx, o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	queued(fmt.Sprintf("a %T comes", *new(T)))
}

func TestNewClientsNeedsAnImage(t *testing.T) {
	t.Setenv("GATEWAY_IMAGE", "")
	_ = os.Unsetenv("GATEWAY_IMAGE")
	wantPanic(t)
}

func TestNewClientsOfWrongPullSecrets(t *testing.T) {
	t.Setenv("GATEWAY_IMAGE", "gateway:v1")
	t.Setenv("IMAGE_PULL_SECRETS", "registry mirror")
	wantPanic(t)
}

func wantPanic(t *testing.T) {
	t.Helper()
	ctx, _ := rt.SetupFakeContext(t, WithSelectors)
	defer func() {
		if recover() == nil {
			t.Error("there are clients")
		}
	}()
	NewClients(ctx)
}
