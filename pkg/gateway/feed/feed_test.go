package feed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/openfunction/events/pkg/plan"
)

// encoded is a plan with one bus of that name, as a Secret holds it.
func encoded(t *testing.T, bus string) []byte {
	t.Helper()
	data, err := plan.Encode(&plan.Plan{Buses: []plan.Bus{{Name: bus, JetStream: &plan.JetStream{URL: "nats://a"}}}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func secret(name string, data []byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string][]byte{plan.SecretKey: data}}
}

// fed is a Feed that runs in a bubble, and what it said.
type fed struct {
	*Feed
	t    *testing.T
	kube *fake.Clientset

	mu sync.Mutex
	// err, when set, is the API server's answer to everything but a running watch.
	err  error
	said []string
}

func (f *fed) answer(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fed) say(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, what)
}

// feed runs a Feed of Secret ns/plan in a bubble, and then test.
func feed(t *testing.T, file string, test func(*fed), err error, objects ...runtime.Object) {
	synctest.Test(t, func(t *testing.T) {
		f := &fed{t: t, kube: fake.NewClientset(objects...), err: err}
		f.kube.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.err != nil, nil, f.err
		})
		feed, err := New(Options{Secret: "ns/plan", Kube: f.kube, File: file})
		if err != nil {
			t.Fatal(err)
		}
		f.Feed = feed
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			feed.Run(ctx, func(p *plan.Plan) error {
				if p.Buses[0].Name == "refused" {
					return errors.New("bus refused")
				}
				f.say(p.Buses[0].Name)
				return nil
			}, func(err error) { f.say(err.Error()) })
		}()
		f.wait(time.Second)
		test(f)
		cancel()
		<-done
	})
}

func (f *fed) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// write makes or changes the Secret ns/plan.
func (f *fed) write(data []byte) {
	f.t.Helper()
	secrets := f.kube.CoreV1().Secrets("ns")
	_, err := secrets.Update(f.t.Context(), secret("plan", data), metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		_, err = secrets.Create(f.t.Context(), secret("plan", data), metav1.CreateOptions{})
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.wait(0)
}

func (f *fed) delete() {
	f.t.Helper()
	if err := f.kube.CoreV1().Secrets("ns").Delete(f.t.Context(), "plan", metav1.DeleteOptions{}); err != nil {
		f.t.Fatal(err)
	}
	f.wait(0)
}

func (f *fed) wants(want ...string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if diff := cmp.Diff(want, f.said); diff != "" {
		f.t.Errorf("said (-want +got):\n%s", diff)
	}
}

var (
	errAway      = errors.New("connection refused")
	errForbidden = apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "plan", errors.New("no"))
)

func TestPlansAreAppliedAsTheyChange(t *testing.T) {
	feed(t, "", func(f *fed) {
		f.wants("one")
		f.write(encoded(t, "two"))
		f.write(encoded(t, "two"))
		f.write(encoded(t, "three"))
		f.wants("one", "two", "three")
	}, nil, secret("plan", encoded(t, "one")))
}

func TestASecretThatComesLaterIsApplied(t *testing.T) {
	feed(t, "", func(f *fed) {
		f.wait(time.Minute)
		f.wants()
		f.write(encoded(t, "one"))
		f.wants("one")
	}, nil)
}

func TestOnlyThatSecretIsAskedFor(t *testing.T) {
	feed(t, "", func(f *fed) {
		for _, a := range f.kube.Actions() {
			var got string
			switch a := a.(type) {
			case clienttesting.ListAction:
				got = a.GetListRestrictions().Fields.String()
			case clienttesting.WatchAction:
				got = a.GetWatchRestrictions().Fields.String()
			}
			if got != "metadata.name=plan" || a.GetNamespace() != "ns" {
				t.Errorf("%s in %q with field selector %q, want metadata.name=plan in ns", a.GetVerb(), a.GetNamespace(), got)
			}
		}
		if n := len(f.kube.Actions()); n != 2 {
			t.Errorf("%d requests, want a list and a watch", n)
		}
	}, nil)
}

func TestWhatCannotWorkIsSaidOnceAndTheNextCounts(t *testing.T) {
	const undecodable = "Secret ns/plan: decode plan: unexpected EOF"
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"no gzip":              {[]byte("?"), undecodable},
		"nothing":              {nil, "Secret ns/plan: decode plan: EOF"},
		"refused by a gateway": {encoded(t, "refused"), "Secret ns/plan: bus refused"},
	} {
		t.Run(name, func(t *testing.T) {
			feed(t, "", func(f *fed) {
				f.write(tt.data)
				f.write(tt.data)
				f.wants("one", tt.want)
				f.write(encoded(t, "one"))
				f.wants("one", tt.want, "one")
			}, nil, secret("plan", encoded(t, "one")))
		})
	}
}

func TestDeletionChangesNothing(t *testing.T) {
	feed(t, "", func(f *fed) {
		f.delete()
		f.wait(time.Minute)
		f.wants("one")
		f.write(encoded(t, "one"))
		f.wants("one")
		f.write(encoded(t, "two"))
		f.wants("one", "two")
	}, nil, secret("plan", encoded(t, "one")))
}

func TestTheFileIsForAStartWithoutTheAPIServer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "plan.json.gz")
	if err := os.WriteFile(file, encoded(t, "file"), 0o600); err != nil {
		t.Fatal(err)
	}
	absent := filepath.Join(t.TempDir(), "absent")
	one := secret("plan", encoded(t, "one"))
	for _, tt := range []struct {
		name    string
		file    string
		err     error
		objects []runtime.Object
		want    []string // while the API server may be away
		after   []string // when it is there
	}{
		{"an API server that answers leaves no room for it", file, nil, []runtime.Object{one}, []string{"one"}, []string{"one"}},
		{"nor does one that knows of no Secret", file, nil, nil, nil, nil},
		{"without an API server the file counts until it is back", file, errAway, []runtime.Object{one}, []string{"file"}, []string{"file", "one"}},
		{"an API server that forbids to look is none", file, errForbidden, []runtime.Object{one}, []string{"file"}, []string{"file", "one"}},
		{"what the file had already is not applied again", file, errAway, []runtime.Object{secret("plan", encoded(t, "file"))}, []string{"file"}, []string{"file"}},
		{"without a file it is said", absent, errAway, []runtime.Object{one},
			[]string{"the API server does not answer for Secret ns/plan: open " + absent + ": no such file or directory"},
			[]string{"the API server does not answer for Secret ns/plan: open " + absent + ": no such file or directory", "one"}},
		{"without the name of a file there is nothing to say", "", errAway, []runtime.Object{one}, nil, []string{"one"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			feed(t, tt.file, func(f *fed) {
				f.wait(time.Minute)
				f.wants(tt.want...)
				f.answer(nil)
				f.wait(time.Minute)
				f.wants(tt.after...)
			}, tt.err, tt.objects...)
		})
	}
}

func TestTheFileIsReadNotBeforeTheAPIServerHadItsTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "plan.json.gz")
	if err := os.WriteFile(file, encoded(t, "file"), 0o600); err != nil {
		t.Fatal(err)
	}
	feed(t, file, func(f *fed) {
		f.wait(fileAfter - time.Second - time.Millisecond)
		f.wants()
		f.wait(time.Millisecond)
		f.wants("file")
	}, errAway)
}

func TestGone(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(*fed)
		during func(*fed) // between the two looks
		want   bool
	}{
		{"a Secret that is there is not gone", func(*fed) {}, nil, false},
		{"one that is deleted is", (*fed).delete, nil, true},
		{"one that comes back is not", (*fed).delete, func(f *fed) { f.write(encoded(t, "two")) }, false},
		{"who may not look any more believes the watch", func(f *fed) { f.delete(); f.answer(errForbidden) }, nil, true},
		{"whose account is gone too", func(f *fed) { f.delete(); f.answer(apierrors.NewUnauthorized("no")) }, nil, true},
		{"but the watch must have said it", func(f *fed) { f.answer(errForbidden) }, nil, false},
		{"an API server that is away says nothing", func(f *fed) { f.delete(); f.answer(errAway) }, nil, false},
		{"nor does one that is away at the second look", (*fed).delete, func(f *fed) { f.answer(errAway) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			feed(t, "", func(f *fed) {
				tt.before(f)
				if tt.during != nil {
					defer time.AfterFunc(goneAgain/2, func() { tt.during(f) }).Stop()
				}
				if got := f.Gone(f.t.Context()); got != tt.want {
					t.Errorf("Gone() = %v, want %v", got, tt.want)
				}
			}, nil, secret("plan", encoded(t, "one")))
		})
	}
}

func TestWhoNeverSawTheAPIServerKnowsOfNothingThatIsGone(t *testing.T) {
	feed(t, "", func(f *fed) {
		if f.Gone(f.t.Context()) {
			t.Error("Gone() = true, want false: it may well be there")
		}
	}, errForbidden)
}

func TestTheNameOfTheSecret(t *testing.T) {
	for _, name := range []string{"", "plan", "/plan", "ns/", "a/b/c"} {
		want := fmt.Sprintf("secret %q: want namespace/name", name)
		if _, err := New(Options{Secret: name, Kube: fake.NewClientset()}); err == nil || err.Error() != want {
			t.Errorf("New(%q) = %v, want %s", name, err, want)
		}
	}
}
