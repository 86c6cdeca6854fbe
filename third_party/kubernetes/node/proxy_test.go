package node

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// A Service that selects no pods leads to what is written for it, and for the port's name.
func TestWritten(t *testing.T) {
	all := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	add := func(namespace, service string, port string, number int32, addresses ...string) {
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: addresses[0], Labels: map[string]string{discoveryv1.LabelServiceName: service}},
			Ports:      []discoveryv1.EndpointPort{{Name: &port, Port: &number}},
		}
		for _, address := range addresses {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}})
		}
		if err := all.Add(slice); err != nil {
			t.Fatal(err)
		}
	}
	add("n", "s", "", 4222, "192.0.2.2", "192.0.2.1")
	add("n", "s", "other", 8222, "192.0.2.3")
	add("n", "another", "", 4222, "192.0.2.4")
	add("elsewhere", "s", "", 4222, "192.0.2.5")
	n := &node{slices: discoverylisters.NewEndpointSliceLister(all)}
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "s"}}
	for name, want := range map[string][]string{"": {"192.0.2.1:4222", "192.0.2.2:4222"}, "other": {"192.0.2.3:8222"}, "none": nil} {
		if got := n.written(s, corev1.ServicePort{Name: name, Port: 1}); !slices.Equal(got, want) {
			t.Errorf("port %q: got %v, want %v", name, got, want)
		}
	}
}
