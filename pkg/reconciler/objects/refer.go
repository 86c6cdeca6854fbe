package objects

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/tracker"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/broker"
)

// scope is one object while it is being compiled.
type scope struct {
	r   *Reader
	ctx context.Context
	// parent is the object, which is reconciled again when what it refers to changes.
	parent                metav1.Object
	kind, namespace, name string

	objects plan.Objects
	// buses are the names of those in objects.
	buses []string
	// unusable is why the object's bus can be used by nobody.
	unusable string
	secrets  map[types.NamespacedName]*corev1.Secret
	compiled *Compiled
	// failure is the first time that the API server could not be asked.
	failure error
}

func (r *Reader) newScope(ctx context.Context, kind string, o metav1.Object) *scope {
	return &scope{
		r: r, ctx: ctx, parent: o, kind: kind, namespace: o.GetNamespace(), name: o.GetName(),
		compiled: &Compiled{Plan: &plan.Plan{}, owner: kind + " " + o.GetNamespace() + "/" + o.GetName(), namespace: o.GetNamespace()},
	}
}

func (s *scope) fail(err error) {
	if s.failure == nil {
		s.failure = err
	}
}

func (s *scope) options() plan.Options {
	return plan.Options{Resolve: s.resolve, Secret: s.value, Embedded: s.embedded}
}

// value is that of a key of a Secret.
func (s *scope) value(namespace, name, key string) (string, error) {
	secret := s.secret(namespace, name)
	if secret == nil {
		return "", errors.New("there is no such Secret: create it, or correct the name")
	}
	value, ok := secret.Data[key]
	if !ok {
		return "", errors.New("the Secret has no such key: add it, or correct the key")
	}
	return string(value), nil
}

// embedded says where the servers of a bus are, once they have a Secret.
func (s *scope) embedded(kind, namespace, name string, spec *v1alpha1.EmbeddedSpec) (*plan.JetStream, error) {
	place := broker.PlaceOf(kind, namespace, name)
	var data map[string][]byte
	if secret := s.secret(place.Namespace, place.Name); secret != nil {
		data = secret.Data
	}
	return place.Connect(spec, data)
}

// secret reads from the API server: a controller that watched the values of Secrets would hold all those of the cluster in memory. It is nil
// when there is none.
func (s *scope) secret(namespace, name string) *corev1.Secret {
	at := types.NamespacedName{Namespace: namespace, Name: name}
	secret, ok := s.secrets[at]
	if !ok {
		s.trackSecret(namespace, name)
		var err error
		secret, err = s.r.kube.CoreV1().Secrets(namespace).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			secret = nil
		}
		if !apierrors.IsNotFound(err) {
			s.fail(err)
		}
		if s.secrets == nil {
			s.secrets = map[types.NamespacedName]*corev1.Secret{}
		}
		s.secrets[at] = secret
	}
	return secret
}

// target is where a destination leads, or why that is not known.
type target struct {
	plan *plan.Target
	err  error
}

// key tells the destinations of an object apart, whether they have their defaults or are as they were written.
func key(d *duckv1.Destination, namespace string) string {
	s := d.URI.String() + " " + caCerts(d.CACerts)
	if r := d.Ref; r != nil {
		ref := *r
		ref.Namespace = cmp.Or(ref.Namespace, namespace)
		s += " " + whole(&ref)
		if r.Address != nil {
			s += " " + *r.Address
		}
	}
	return s
}

// resolve returns where d leads. It asks only once: for a kind that the cluster lacks, the API server is asked each time.
func (s *scope) resolve(d *duckv1.Destination, _ string) (*plan.Target, error) {
	t, ok := s.compiled.targets[key(d, s.namespace)]
	if !ok {
		t.plan, t.err = s.find(d)
		if s.compiled.targets == nil {
			s.compiled.targets = map[string]target{}
		}
		s.compiled.targets[key(d, s.namespace)] = t
	}
	return t.plan, t.err
}

// find returns where d leads. An absolute URI wins over a reference.
func (s *scope) find(d *duckv1.Destination) (*plan.Target, error) {
	if u := d.URI.URL(); !d.URI.IsEmpty() && u.IsAbs() && u.Host != "" {
		return &plan.Target{Name: "sink " + plan.HideURL(u.String()), URL: u.String(), CACerts: caCerts(d.CACerts)}, nil
	}
	ref := d.Ref
	if ref == nil {
		return nil, errors.New("neither ref nor an absolute uri: nobody knows where it leads")
	}
	// The resolver tracks too, but does not tell a name that can never be from a server that is away.
	if err := s.r.tracker.TrackReference(tracker.Reference{
		APIVersion: ref.APIVersion, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name,
	}, s.parent); err != nil {
		return nil, fmt.Errorf("%s cannot be the name of anything: %w", whole(ref), err)
	}
	addr, err := s.r.resolver.AddressableFromDestinationV1(s.ctx, *d, s.parent)
	if err != nil {
		return nil, s.unresolved(ref, err)
	}
	return &plan.Target{Name: "sink " + ref.Namespace + "/" + ref.Name, URL: addr.URL.String(), CACerts: caCerts(addr.CACerts)}, nil
}

// unresolved says in plain words why ref leads nowhere.
func (s *scope) unresolved(ref *duckv1.KReference, err error) error {
	var status apierrors.APIStatus
	switch {
	case apierrors.IsNotFound(err) && errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Name != "":
		return fmt.Errorf("%s does not exist: create it, or correct the ref", whole(ref))
	case apierrors.IsNotFound(err):
		return fmt.Errorf("this cluster has no kind %s of %s: install what provides it, or correct the ref", ref.Kind, ref.APIVersion)
	case apierrors.IsForbidden(err):
		return fmt.Errorf(`the controller may not read the kind %s of %s: give it a ClusterRole with the label duck.knative.dev/addressable: "true"`,
			ref.Kind, ref.APIVersion)
	case apierrors.IsBadRequest(err) && ref.Address != nil:
		return fmt.Errorf("%s has no address named %s", whole(ref), *ref.Address)
	case apierrors.IsBadRequest(err):
		return fmt.Errorf("%s has no URL in its status.address yet", whole(ref))
	}
	s.fail(fmt.Errorf("resolve %s: %w", whole(ref), err))
	return err
}

// whole is what a person calls what ref refers to.
func whole(ref *duckv1.KReference) string {
	return fmt.Sprintf("%s %s/%s (%s)", ref.Kind, ref.Namespace, ref.Name, ref.APIVersion)
}

func caCerts(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}
