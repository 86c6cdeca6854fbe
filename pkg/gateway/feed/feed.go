// Package feed hands a gateway the plan that a Secret holds, whenever it changes.
package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/plan"
)

const (
	// fileAfter is how long the API server has to answer before the file counts.
	fileAfter = 3 * time.Second
	// goneAgain is the time between the two looks of Gone: a Secret that is made anew is back by then.
	goneAgain = 2 * time.Second
)

// Options say where plans come from.
type Options struct {
	// Secret is namespace/name. Its key is plan.SecretKey.
	Secret string
	// Kube may get, list and watch that one Secret.
	Kube kubernetes.Interface
	// File has what the Secret had some time ago, for a start without the API server. It may be absent; empty means that there is none.
	File string
}

// Feed follows one Secret.
type Feed struct {
	o               Options
	namespace, name string
	informer        cache.SharedIndexInformer
}

// New returns a Feed that does nothing until Run.
func New(o Options) (*Feed, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(o.Secret)
	if err != nil || namespace == "" || name == "" {
		return nil, fmt.Errorf("secret %q: want namespace/name", o.Secret)
	}
	f := &Feed{o: o, namespace: namespace, name: name}
	f.informer = coreinformers.NewFilteredSecretInformer(o.Kube, namespace, 0, cache.Indexers{}, func(list *metav1.ListOptions) {
		list.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	})
	return f, f.informer.SetWatchErrorHandlerWithContext(unwatched)
}

// unwatched logs that the API server does not tell of changes; the informer tries again by itself.
func unwatched(ctx context.Context, _ *cache.Reflector, err error) {
	if errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) { // every watch ends some time
		return
	}
	logging.FromContext(ctx).Warnw("the plan is not watched just now, trying again", "error", err)
}

// Run calls apply with each plan until ctx is done, one after the other, and failed with the reason when there is something that cannot be
// decoded or applied, once for each. If the API server does not answer in 3 s, the plan of the file comes first. What the API server tells
// is never older than what was told before, and a Secret that is deleted changes nothing. It may be called once.
func (f *Feed) Run(ctx context.Context, apply func(*plan.Plan) error, failed func(error)) {
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default: // it is told already, and looks at the latest
		}
	}
	_, err := f.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { tell() }, UpdateFunc: func(any, any) { tell() },
	})
	if err != nil {
		failed(err)
		return
	}
	var watching sync.WaitGroup
	watching.Go(func() { f.informer.RunWithContext(ctx) })
	defer watching.Wait()

	var last []byte
	use := func(from string, data []byte) {
		if last != nil && bytes.Equal(data, last) {
			return
		}
		last = data
		p, err := plan.Decode(data)
		if err == nil {
			err = apply(p)
		}
		if err != nil {
			failed(fmt.Errorf("%s: %w", from, err))
		}
	}
	late := time.NewTimer(fileAfter)
	defer late.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			if data, ok := f.secret(); ok {
				use("Secret "+f.o.Secret, data)
			}
		case <-late.C:
			if f.informer.HasSynced() || f.o.File == "" {
				continue
			}
			data, err := os.ReadFile(f.o.File)
			if err != nil {
				failed(fmt.Errorf("the API server does not answer for Secret %s: %w", f.o.Secret, err))
				continue
			}
			use(f.o.File, data)
		}
	}
}

// secret returns what the Secret holds, as far as the API server has told.
func (f *Feed) secret() (data []byte, ok bool) {
	o, ok, _ := f.informer.GetStore().GetByKey(f.o.Secret) // a store in memory has no error
	if !ok {
		return nil, false
	}
	data = o.(*corev1.Secret).Data[plan.SecretKey]
	if data == nil {
		data = []byte{} // what is missing is a plan that cannot be decoded
	}
	return data, true
}

// Gone tells whether the Secret is deleted and was not made anew within two seconds. If that cannot be found out it is false.
//
// Who deletes a workload deletes the right to read its Secret as well, in any order. So an answer that forbids to look confirms what
// the watch has told before: Gone is to be called while Run runs.
func (f *Feed) Gone(ctx context.Context) bool {
	if !f.absent(ctx) {
		return false
	}
	select {
	case <-time.After(goneAgain):
		return f.absent(ctx)
	case <-ctx.Done():
		return false
	}
}

func (f *Feed) absent(ctx context.Context) bool {
	_, err := f.o.Kube.CoreV1().Secrets(f.namespace).Get(ctx, f.name, metav1.GetOptions{})
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		_, ok := f.secret()
		return !ok && f.informer.HasSynced()
	}
	return apierrors.IsNotFound(err)
}
