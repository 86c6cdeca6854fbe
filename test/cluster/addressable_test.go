//go:build e2e

package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/client/injection/ducks/duck/v1/addressable"
	"knative.dev/pkg/injection/clients/dynamicclient"
	"knative.dev/pkg/resolver"
	"knative.dev/pkg/tracker"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

const knativeSource = "system:serviceaccount:knative-sources:controller"

// resolves does as the controller of a Knative source does, that may do no more than the ClusterRole says which we ship for it: it finds where an
// EventSource takes events, and an event is taken there.
func (i *installation) resolves(namespace string) {
	i.t.Helper()
	i.Apply(`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: knative-sources}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: openfunction-events-addressable-resolver}
subjects: [{kind: ServiceAccount, name: controller, namespace: knative-sources}]
`)
	defer i.Kubectl("delete", "clusterrolebinding", "knative-sources")
	if _, err := i.Try("-n", namespace, "get", "es/es", "--as=system:serviceaccount:knative-sources:another"); err == nil {
		i.t.Error("another account may read an EventSource too, so this proves nothing")
	}
	if _, err := i.Try("-n", namespace, "get", "tg/t", "--as="+knativeSource); err == nil {
		i.t.Error("the role lets others read Triggers")
	}
	config, err := clientcmd.BuildConfigFromFlags("", i.Kubeconfig())
	if err != nil {
		i.t.Fatal(err)
	}
	config.Impersonate = rest.ImpersonationConfig{UserName: knativeSource}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		i.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithValue(i.t.Context(), dynamicclient.Key{}, client))
	defer cancel()
	ctx = addressable.WithDuck(ctx)
	r := resolver.NewURIResolverFromTracker(ctx, tracker.New(func(types.NamespacedName) {}, time.Hour))
	parent := &v1alpha1.Trigger{}
	parent.Namespace, parent.Name = namespace, "who-sends"
	address := ""
	i.eventually(30*time.Second, "the address of the EventSource", func() error {
		found, err := r.AddressableFromDestinationV1(ctx, duckv1.Destination{Ref: &duckv1.KReference{
			APIVersion: "events.openfunction.io/v1alpha1", Kind: "EventSource", Namespace: namespace, Name: "es",
		}}, parent)
		if err == nil {
			address = found.URL.String()
		}
		return err
	})
	if got := i.Kubectl("-n", namespace, "get", "es/es", "-o", "jsonpath={.status.address.url}"); got != address {
		i.t.Errorf("resolved is %s, and the status says %s", address, got)
	}
	poster := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: i.dial}}
	if status, err := postWith(poster, address, unique()); err != nil || status != http.StatusAccepted {
		i.t.Errorf("post to %s: %d (%v), want 202", address, status, err)
	}
}

// dial connects to the shared gateway by the name that its Service has in the cluster.
func (i *installation) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !strings.HasPrefix(address, "events-gateway.openfunction.svc.") || !strings.HasSuffix(address, ":80") {
		return nil, fmt.Errorf("%s is not the shared gateway", address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, i.gateway())
}
