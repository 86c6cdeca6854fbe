package gateway

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// secrets is a client that asks the API server for each Secret once in a pass: hundreds of EventSources may use one bus, and its password.
// It is for one goroutine.
type secrets struct {
	kubernetes.Interface
	answers map[types.NamespacedName]answer
}

type answer struct {
	secret *corev1.Secret
	err    error
}

// forget begins a pass.
func (s *secrets) forget() { s.answers = map[types.NamespacedName]answer{} }

// CoreV1 is that of the Interface, but for Secrets.
func (s *secrets) CoreV1() corev1client.CoreV1Interface { return core{s.Interface.CoreV1(), s} }

type core struct {
	corev1client.CoreV1Interface
	secrets *secrets
}

func (c core) Secrets(namespace string) corev1client.SecretInterface {
	return namespaced{c.CoreV1Interface.Secrets(namespace), namespace, c.secrets}
}

type namespaced struct {
	corev1client.SecretInterface
	namespace string
	secrets   *secrets
}

func (n namespaced) Get(ctx context.Context, name string, options metav1.GetOptions) (*corev1.Secret, error) {
	key := types.NamespacedName{Namespace: n.namespace, Name: name}
	a, ok := n.secrets.answers[key]
	if !ok {
		a.secret, a.err = n.SecretInterface.Get(ctx, name, options)
		n.secrets.answers[key] = a
	}
	return a.secret, a.err
}
