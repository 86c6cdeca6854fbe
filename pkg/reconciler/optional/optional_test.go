package optional

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"
	"knative.dev/pkg/injection/clients/dynamicclient"
	"sigs.k8s.io/yaml"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

var (
	things = schema.GroupVersionResource{Group: "test.dev", Version: "v1", Resource: "things"}
	others = schema.GroupVersionResource{Group: "test.dev", Version: "v1", Resource: "others"}
)

const (
	// installed is the definition of things.
	installed = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.test.dev}
spec: {versions: [{name: v1, served: true}]}
status: {conditions: [{type: Established, status: "True"}]}`
	// child is as Apply makes it.
	child = `
apiVersion: test.dev/v1
kind: Thing
metadata:
  name: a
  namespace: shop
  labels:
    app.kubernetes.io/component: trigger
    app.kubernetes.io/managed-by: events-controller
    app.kubernetes.io/name: openfunction-events
    events.openfunction.io/trigger: t
    own: label
  ownerReferences:
  - {apiVersion: events.openfunction.io/v1alpha1, kind: Trigger, name: t, uid: t-uid, controller: true, blockOwnerDeletion: true}
spec: {size: 1}`
)

func TestApply(t *testing.T) {
	foreign := `{apiVersion: test.dev/v1, kind: Thing, metadata: {name: a, namespace: shop}, spec: {size: 1}}`
	tests := []struct {
		name    string
		exists  []string
		desired []*unstructured.Unstructured
		// want is a after Apply, nil if there is none.
		want   *unstructured.Unstructured
		writes []string
		taken  *TakenError
	}{{
		name:    "a child that is missing is created, owned and with labels",
		desired: []*unstructured.Unstructured{thing("a", 1)},
		want:    object(t, child),
		writes:  []string{"create a"},
	}, {
		name:    "a child that is as wanted is not written",
		exists:  []string{child},
		desired: []*unstructured.Unstructured{thing("a", 1)},
		want:    object(t, child),
	}, {
		name: "a child that differs is updated, and what others wrote stays",
		exists: []string{edit(t, child, func(o *unstructured.Unstructured) {
			o.SetAnnotations(map[string]string{"their": "annotation"})
			o.SetFinalizers([]string{"theirs.dev/finalizer"})
			set(o, "ready", "status", "state")
			set(o, "label", "metadata", "labels", "their")
			set(o, "gone", "spec", "removed")
			set(o, "gone", "auth", "removed")
		})},
		desired: []*unstructured.Unstructured{thing("a", 2)},
		want: object(t, edit(t, child, func(o *unstructured.Unstructured) {
			o.SetAnnotations(map[string]string{"their": "annotation"})
			o.SetFinalizers([]string{"theirs.dev/finalizer"})
			set(o, "ready", "status", "state")
			set(o, "label", "metadata", "labels", "their")
			set(o, int64(2), "spec", "size")
		})),
		writes: []string{"update a"},
	}, {
		name:    "a label that somebody changed is put right",
		exists:  []string{edit(t, child, func(o *unstructured.Unstructured) { set(o, "changed", "metadata", "labels", "own") })},
		desired: []*unstructured.Unstructured{thing("a", 1)},
		want:    object(t, child),
		writes:  []string{"update a"},
	}, {
		name: "a child whose labels are lost is found by its name",
		exists: []string{edit(t, child, func(o *unstructured.Unstructured) {
			o.SetLabels(nil)
		})},
		desired: []*unstructured.Unstructured{thing("a", 1)},
		want:    object(t, child),
		writes:  []string{"create a", "update a"},
	}, {
		name: "a child that is not wanted any more is deleted, and those of others stay",
		exists: []string{edit(t, child, func(o *unstructured.Unstructured) {
			o.SetUID("a-uid")
		}), edit(t, child, func(o *unstructured.Unstructured) {
			o.SetName("of-another-trigger")
			o.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Trigger", Name: "other", UID: "other-uid", Controller: new(true)}})
		}), edit(t, child, func(o *unstructured.Unstructured) {
			o.SetName("of-nobody")
			o.SetOwnerReferences(nil)
		}), edit(t, child, func(o *unstructured.Unstructured) {
			o.SetName("owned-but-not-controlled")
			o.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Trigger", Name: "t", UID: "t-uid"}})
		})},
		desired: []*unstructured.Unstructured{thing("b", 1)},
		writes:  []string{"create b", "delete a with a-uid"},
	}, {
		name:    "an object that is nobody's is left alone, and the others are applied",
		exists:  []string{foreign},
		desired: []*unstructured.Unstructured{thing("a", 2), thing("b", 1)},
		want:    object(t, foreign),
		writes:  []string{"create a", "create b"},
		taken:   &TakenError{Kind: "Thing", Namespace: "shop", Name: "a"},
	}, {
		name: "an object that is somebody else's is left alone",
		exists: []string{edit(t, child, func(o *unstructured.Unstructured) {
			o.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Trigger", Name: "other", UID: "other-uid", Controller: new(true)}})
		})},
		desired: []*unstructured.Unstructured{thing("a", 2)},
		want: object(t, edit(t, child, func(o *unstructured.Unstructured) {
			o.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Trigger", Name: "other", UID: "other-uid", Controller: new(true)}})
		})),
		writes: []string{"create a"},
		taken:  &TakenError{Kind: "Thing", Namespace: "shop", Name: "a", Owner: "Trigger other"},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, append(tt.exists, installed)...)
			receive(t, w.installed)

			err := w.children.Apply(t.Context(), trigger(), things, tt.desired)
			var taken *TakenError
			errors.As(err, &taken)
			if diff := cmp.Diff(tt.taken, taken); diff != "" || tt.taken == nil && err != nil {
				t.Errorf("Apply() = %v (-want, +got):\n%s", err, diff)
			}
			if diff := cmp.Diff(tt.writes, w.writes()); diff != "" {
				t.Errorf("writes (-want, +got):\n%s", diff)
			}
			got, err := w.client.Resource(things).Namespace("shop").Get(t.Context(), "a", metav1.GetOptions{})
			if tt.want == nil && apierrors.IsNotFound(err) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("the child (-want, +got):\n%s", diff)
			}
		})
	}
}

func TestApplyAgainWritesNothing(t *testing.T) {
	w := newWorld(t, installed)
	receive(t, w.installed)
	receive(t, w.watched[things])
	for _, when := range []string{"before we know of the first", "when we do"} {
		if err := w.children.Apply(t.Context(), trigger(), things, []*unstructured.Unstructured{thing("a", 1)}); err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(w.writes(), func(write string) bool { return write == "create a" })
		if len(got) > 0 {
			t.Errorf("%s, it writes %v", when, got)
		}
		if when == "before we know of the first" {
			if got := receive(t, w.changed).(*unstructured.Unstructured).GetName(); got != "a" {
				t.Fatalf("changed %q, want a", got)
			}
			w.client.ClearActions()
		}
	}
	if got := w.writes(); len(got) > 0 {
		t.Errorf("with the child known it writes %v", got)
	}
}

func TestApplyReadsAnewAfterAConflict(t *testing.T) {
	w := newWorld(t, installed, child)
	receive(t, w.installed)
	w.conflicts.Store(1)
	if err := w.children.Apply(t.Context(), trigger(), things, []*unstructured.Unstructured{thing("a", 2)}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"update a", "update a"}, w.writes()); diff != "" {
		t.Errorf("writes (-want, +got):\n%s", diff)
	}
}

func TestKindsComeAndGo(t *testing.T) {
	w := newWorld(t)
	receive(t, w.watched[definitions])
	receive(t, w.watched[definitions]) // that of others
	apply := func() {
		t.Helper()
		if err := w.children.Apply(t.Context(), trigger(), things, []*unstructured.Unstructured{thing("a", 1)}); err != nil {
			t.Fatal(err)
		}
	}
	apply()
	for _, a := range w.client.Actions() {
		if a.GetResource() != definitions {
			t.Errorf("without the kind there is %s %s", a.GetVerb(), a.GetResource().Resource)
		}
	}

	w.create(t, installed)
	receive(t, w.installed)
	if !w.children.Installed(things) || w.children.Installed(others) {
		t.Errorf("Installed() = %t for things and %t for others, want true and false", w.children.Installed(things), w.children.Installed(others))
	}
	receive(t, w.watched[things])
	apply()
	receive(t, w.changed)

	if err := w.client.Resource(definitions).Delete(t.Context(), "things.test.dev", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	receive(t, w.installed)
	if w.children.Installed(things) {
		t.Error("Installed(things) = true without their definition")
	}
	if err := w.client.Resource(things).Namespace("shop").Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.client.ClearActions()
	apply()
	if got := w.writes(); len(got) > 0 {
		t.Errorf("without the kind it writes %v", got)
	}

	w.create(t, installed)
	receive(t, w.installed)
	apply()
	if diff := cmp.Diff([]string{"create things.test.dev", "create a"}, w.writes()); diff != "" {
		t.Errorf("writes when the kind is back (-want, +got):\n%s", diff)
	}
}

func TestServed(t *testing.T) {
	tests := []struct {
		name string
		edit func(crd *unstructured.Unstructured)
		want bool
	}{
		{"established and served", func(*unstructured.Unstructured) {}, true},
		{"just created", func(crd *unstructured.Unstructured) { delete(crd.Object, "status") }, false},
		{"not established", func(crd *unstructured.Unstructured) {
			set(crd, []any{map[string]any{"type": "Established", "status": "False"}, map[string]any{"type": "NamesAccepted", "status": "True"}}, "status", "conditions")
		}, false},
		{"our version is not served", func(crd *unstructured.Unstructured) {
			set(crd, []any{map[string]any{"name": "v1", "served": false}, map[string]any{"name": "v2", "served": true}}, "spec", "versions")
		}, false},
	}
	k := &kind{resource: things}
	for _, tt := range tests {
		if got := k.served(object(t, edit(t, installed, tt.edit))); got != tt.want {
			t.Errorf("%s: served() = %t, want %t", tt.name, got, tt.want)
		}
	}
}

// world is a cluster that may have things and others.
type world struct {
	client    *fake.FakeDynamicClient
	children  *Children
	installed chan struct{}
	changed   chan any
	// conflicts is how many of the next updates fail with a conflict.
	conflicts atomic.Int32
	// watched tells when changes of a resource are seen.
	watched map[schema.GroupVersionResource]chan struct{}
}

func newWorld(t *testing.T, objects ...string) *world {
	t.Helper()
	w := &world{
		client: fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
			definitions: "CustomResourceDefinitionList", things: "ThingList", others: "OtherList",
		}),
		installed: make(chan struct{}, 100),
		changed:   make(chan any, 100),
		watched: map[schema.GroupVersionResource]chan struct{}{
			definitions: make(chan struct{}, 100), things: make(chan struct{}, 100), others: make(chan struct{}, 100),
		},
	}
	for _, text := range objects {
		w.create(t, text)
	}
	w.client.ClearActions()
	react := w.client.WatchReactionChain[0].React
	w.client.PrependWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		handled, stream, err := react(a)
		w.watched[a.GetResource()] <- struct{}{}
		return handled, stream, err
	})
	w.client.PrependReactor("update", "things", func(clienttesting.Action) (bool, runtime.Object, error) {
		return w.conflicts.Add(-1) >= 0, nil, apierrors.NewConflict(things.GroupResource(), "a", errors.New("old"))
	})
	w.children = New(context.WithValue(t.Context(), dynamicclient.Key{}, w.client), Options{
		Component: "trigger",
		Kinds:     []schema.GroupVersionResource{things, others},
		Installed: func() { w.installed <- struct{}{} },
		Changed:   func(child any) { w.changed <- child },
	})
	return w
}

func (w *world) create(t *testing.T, text string) {
	t.Helper()
	o := object(t, text)
	resource := things
	if o.GetKind() == "CustomResourceDefinition" {
		resource = definitions
	}
	if _, err := w.client.Resource(resource).Namespace(o.GetNamespace()).Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// writes are the requests that write, in order.
func (w *world) writes() []string {
	var writes []string
	for _, a := range w.client.Actions() {
		switch a := a.(type) {
		case clienttesting.CreateActionImpl:
			writes = append(writes, "create "+a.Object.(metav1.Object).GetName())
		case clienttesting.UpdateActionImpl:
			writes = append(writes, "update "+a.Object.(metav1.Object).GetName())
		case clienttesting.DeleteActionImpl:
			writes = append(writes, "delete "+a.Name+" with "+string(*a.DeleteOptions.Preconditions.UID))
		}
	}
	return writes
}

func receive[T any](t *testing.T, from chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func trigger() *v1alpha1.Trigger {
	return &v1alpha1.Trigger{ObjectMeta: metav1.ObjectMeta{Name: "t", Namespace: "shop", UID: types.UID("t-uid")}}
}

func thing(name string, size int64) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "test.dev/v1", "kind": "Thing",
		"metadata": map[string]any{"name": name, "labels": map[string]any{"own": "label"}},
		"spec":     map[string]any{"size": size},
	}}
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	return o
}

func edit(t *testing.T, text string, change func(*unstructured.Unstructured)) string {
	t.Helper()
	o := object(t, text)
	change(o)
	data, err := o.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func set(o *unstructured.Unstructured, value any, path ...string) {
	if err := unstructured.SetNestedField(o.Object, value, path...); err != nil {
		panic(err)
	}
}
