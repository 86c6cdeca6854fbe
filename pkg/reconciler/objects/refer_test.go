package objects_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgotesting "k8s.io/client-go/testing"
	"knative.dev/pkg/apis"
	kubeclient "knative.dev/pkg/client/injection/kube/client/fake"
	dynamicclient "knative.dev/pkg/injection/clients/dynamicclient/fake"
	"knative.dev/pkg/tracker"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/reconciler/objects"
	. "github.com/openfunction/events/pkg/reconciler/testing"
	"github.com/openfunction/events/test/servers"
)

func TestSink(t *testing.T) {
	relative := func(d *v1alpha1.Sink, uri string) *v1alpha1.Sink {
		d.URI, _ = apis.ParseURL(uri)
		return d
	}
	ref := func(apiVersion, kind, name string) *v1alpha1.Sink { return Ref(apiVersion, kind, "", name) }
	named := ref("serving.knative.dev/v1", "Service", "display")
	named.Ref.Address = new(string)
	*named.Ref.Address = "internal"
	services := []runtime.Object{
		Addressable("shop", "display", "http://display.shop.example.com"),
		Addressable("shop", "starting", ""),
		KubernetesService("shop", "plain"),
	}
	const display = "Service shop/display (serving.knative.dev/v1)"
	for _, tt := range []struct {
		name string
		sink *v1alpha1.Sink
		want string
		err  string
	}{
		{"a Knative Service", Service("shop", "display"), "sink shop/display at http://display.shop.example.com", ""},
		{"of the object's own namespace", Service("", "display"), "sink shop/display at http://display.shop.example.com", ""},
		{"a path of it", relative(Service("shop", "display"), "/in?a=b"), "sink shop/display at http://display.shop.example.com/in?a=b", ""},
		{"a Kubernetes Service", ref("v1", "Service", "plain"), "sink shop/plain at http://plain.shop.svc.cluster.local", ""},
		{"a URL", URI("https://a:b@example.com/in"), "sink https://***@example.com/in at https://a:b@example.com/in", ""},
		{"a URL comes before a reference", relative(Service("shop", "missing"), "http://example.com"), "sink http://example.com at http://example.com", ""},
		{"one that does not exist", Service("crm", "display"), "", "Service crm/display (serving.knative.dev/v1) does not exist: create it, or correct the ref"},
		{"one without a URL yet", Service("shop", "starting"), "", "Service shop/starting (serving.knative.dev/v1) has no URL in its status.address yet"},
		{"one without that address", named, "", display + " has no address named internal"},
		{"a kind that the cluster does not have", ref("gone.example.com/v1", "Nowhere", "x"), "",
			"this cluster has no kind Nowhere of gone.example.com/v1: install what provides it, or correct the ref"},
		{"a name that nothing can have", ref("v1", "Service", "Not_A_Name"), "", "Service shop/Not_A_Name (v1) cannot be the name of anything: invalid Reference:\n" +
			"Name: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character " +
			"(e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			es := EventSource("shop", "es", WithHTTP("order"), WithSink(tt.sink))
			ctx := NewWorld(t, append(services, es)...).Ctx
			got, err := objects.NewReader(ctx, noTracker()).EventSource(ctx, es)
			if err != nil {
				t.Fatal(err)
			}
			sink := ""
			for _, s := range got.Plan.Sources {
				sink = s.Sink.Name + " at " + s.Sink.URL
			}
			if sink != tt.want {
				t.Errorf("sink = %s, want %s", sink, tt.want)
			}
			_, shown, _ := strings.Cut(strings.Replace(tt.want, "a:b@", "", 1), " at ") // without a user name and password
			if url := got.URL(es.Spec.Sink); url != shown {
				t.Errorf("URL = %s, want %s", url, shown)
			}
			written := es.Spec.Sink.DeepCopy()
			if written.Ref != nil && written.Ref.Namespace == "shop" {
				written.Ref.Namespace = ""
			}
			if url := got.URL(written); url != shown {
				t.Errorf("URL of the sink without its namespace = %s, want %s", url, shown)
			}
			message := ""
			for _, p := range got.Problems {
				message += p.Message
			}
			if diff := cmp.Diff(tt.err, message); diff != "" {
				t.Errorf("problems (-want, +got):\n%s", diff)
			}
		})
	}
}

func TestWhoSinksAreTrustedBy(t *testing.T) {
	own, theirs := servers.NewAuthority(t).Cert, servers.NewAuthority(t).Cert
	with := func(d *v1alpha1.Sink) *v1alpha1.Sink {
		d.CACerts = &own
		return d
	}
	plain := func() *v1alpha1.Sink { return Ref("v1", "Service", "shop", "plain") }
	secure := Addressable("shop", "secure", "https://secure.shop.example.com")
	if err := unstructured.SetNestedField(secure.Object, theirs, "status", "address", "CACerts"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, url, certs string
		sink             *v1alpha1.Sink
	}{
		{"the address's", "https://secure.shop.example.com", theirs, Service("shop", "secure")},
		{"the sink's own come before the address's", "https://secure.shop.example.com", own, with(Service("shop", "secure"))},
		{"a URL's", "https://example.com", own, with(URI("https://example.com"))},
		{"a Kubernetes Service's", "https://plain.shop.svc.cluster.local", own, with(plain())},
		{"a Kubernetes Service without", "http://plain.shop.svc.cluster.local", "", plain()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			es := EventSource("shop", "es", WithHTTP("order"), WithSink(tt.sink))
			ctx := NewWorld(t, secure, KubernetesService("shop", "plain"), es).Ctx
			got, err := objects.NewReader(ctx, noTracker()).EventSource(ctx, es)
			if err != nil || len(got.Problems) > 0 {
				t.Fatal(err, got.Problems)
			}
			if sink := got.Plan.Sources[0].Sink; sink.URL != tt.url || sink.CACerts != tt.certs {
				t.Errorf("sink = %s trusted by %q, want %s trusted by %q", sink.URL, sink.CACerts, tt.url, tt.certs)
			}
		})
	}
}

func TestServerAway(t *testing.T) {
	away := apierrors.NewInternalError(errors.New("etcd is away"))
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "", errors.New("no"))
	es := EventSource("shop", "es", WithKafka("orders", "kafka"), WithSink(Service("shop", "display")))
	for _, tt := range []struct {
		name     string
		resource string
		err      error
		want     bool
	}{
		{"nobody knows about a Secret", "secrets", away, true},
		{"Secrets must not be read", "secrets", forbidden, true},
		{"nobody knows about a sink", "services", away, true},
		{"sinks must not be read, which the user can change", "services", forbidden, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := NewWorld(t, es, Secret("shop", "kafka")).Ctx
			fail := func(clientgotesting.Action) (bool, runtime.Object, error) { return true, nil, tt.err }
			kubeclient.Get(ctx).PrependReactor("get", tt.resource, fail)
			dynamicclient.Get(ctx).PrependReactor("list", tt.resource, fail)
			c, err := objects.NewReader(ctx, noTracker()).EventSource(ctx, es)
			if got := err != nil; got != tt.want {
				t.Errorf("EventSource: error %v, want one: %v (compiled: %+v)", err, tt.want, c)
			}
		})
	}
}

func TestSinksAreTracked(t *testing.T) {
	es := EventSource("shop", "es", WithHTTP("order"), WithSink(Service("shop", "display")))
	ctx := NewWorld(t, es).Ctx
	var again []types.NamespacedName
	track := tracker.New(func(key types.NamespacedName) { again = append(again, key) }, 1<<40)
	if _, err := objects.NewReader(ctx, track).EventSource(ctx, es); err != nil {
		t.Fatal(err)
	}
	again = nil
	track.OnChanged(Addressable("shop", "display", "http://new.example.com"))
	if diff := cmp.Diff([]types.NamespacedName{{Namespace: "shop", Name: "es"}}, again); diff != "" {
		t.Errorf("objects to look at again (-want, +got):\n%s", diff)
	}
}
