package workload

import (
	"bytes"
	"compress/gzip"
	"io"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// postponed is a plan in which these subscribers of load wait.
func postponed(ids ...string) *plan.Plan {
	return plan.Postpone(&plan.Plan{Subscribers: load(ids...).Plan.Subscribers}, func(string) bool { return true })
}

// beside returns p with what waits in another.
func beside(p, other *plan.Plan) *plan.Plan {
	p.Waiting = other.Waiting
	return p
}

// ids are those of the subscribers and of the retired subscriptions.
func ids(p *plan.Plan) [2][]string {
	var all [2][]string
	for _, s := range p.Subscribers {
		all[0] = append(all[0], s.ID)
	}
	for _, r := range p.Retired {
		all[1] = append(all[1], r.ID)
	}
	return all
}

func TestPlansFollowOneAnother(t *testing.T) {
	l := load("1", "2", "3")
	w := applied(t, l)
	steps := []struct {
		name string
		load Workload
		pod  *plan.Report
		want [2][]string
	}{
		{"a subscriber that is dropped is retired", load("1", "3"), nil, [2][]string{{"1", "3"}, {"2"}}},
		{"as long as no gateway says that it is removed", load("1", "3"), &plan.Report{}, [2][]string{{"1", "3"}, {"2"}}},
		{"together with others", load("3"), nil, [2][]string{{"3"}, {"2", "1"}}},
		{"or not all that are ready say so", load("3"), &plan.Report{Retired: []string{"2"}}, [2][]string{{"3"}, {"2", "1"}}},
		{"what waits goes on", Workload{Owner: l.Owner, Name: l.Name, Component: l.Component, Plan: postponed("3")}, nil, [2][]string{{"3"}, {"2", "1"}}},
	}
	for _, tt := range steps {
		if tt.pod != nil {
			w.pod("d", l.labels(), tt.pod)
		}
		w.apply(tt.load)
		w.sync()
		if diff := gocmp.Diff(ids(w.stored("d", "trigger-t")), tt.want); diff != "" {
			t.Errorf("%s: subscribers and retired (-got +want):\n%s", tt.name, diff)
		}
	}
}

func TestASubscriberThatLeadsElsewhereKeepsItsSubscription(t *testing.T) {
	l := load("before")
	w := applied(t, l)
	next := load("after")
	w.apply(next)
	w.sync()
	if diff := gocmp.Diff([2][]string{{"before"}, nil}, ids(w.stored("d", "trigger-t"))); diff != "" {
		t.Errorf("subscribers and retired (-want +got):\n%s", diff)
	}
	if got := w.clients.Succeed(t.Context(), "d", "trigger-t", next.Plan).Subscribers[0].ID; got != "before" {
		t.Errorf("Succeed() has subscription %q, want before", got)
	}
}

// TestAPlanOfAnotherVersion is what remains when that is rolled back: what it has added is left out, the rest goes on.
func TestAPlanOfAnotherVersion(t *testing.T) {
	for _, tt := range []struct {
		name, change string
		want         [2][]string
	}{
		{"it has added a field", `"id":"before","colour":"red"`, [2][]string{{"before"}, {"gone"}}},
		{"it has another type for one", `"id":["before"]`, [2][]string{{"after"}, nil}},
	} {
		w := applied(t, load("before", "gone"))
		next := load("before")
		w.apply(next)
		w.change([]string{"secrets"}, func(o metav1.Object) {
			data := o.(*corev1.Secret).Data
			z, err := gzip.NewReader(bytes.NewReader(data[plan.SecretKey]))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			to := gzip.NewWriter(&b)
			_, _ = to.Write(bytes.Replace(text, []byte(`"id":"before"`), []byte(tt.change), 1))
			_ = to.Close()
			data[plan.SecretKey] = b.Bytes()
		})
		if tt.want[0][0] == "before" { // nothing else changes, and a gateway of this version has to understand it
			w.apply(next)
			w.sync()
			if _, err := plan.Decode(w.all()["secrets"][0].(*corev1.Secret).Data[plan.SecretKey]); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		}
		w.apply(load("after"))
		if diff := gocmp.Diff(tt.want, ids(w.stored("d", "trigger-t"))); diff != "" {
			t.Errorf("%s: subscribers and retired (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestWhenARetiredSubscriptionIsForgotten(t *testing.T) {
	for _, tt := range []struct {
		name string
		pods func(w *world)
		want []string
	}{
		{"no pod says so", func(w *world) { w.pod("d", load().labels(), &plan.Report{}) }, []string{"2"}},
		{"the only pod does", func(w *world) { w.pod("d", load().labels(), &plan.Report{Retired: []string{"2"}}) }, nil},
		{"one of two ready pods does", func(w *world) {
			w.pod("d", load().labels(), &plan.Report{Retired: []string{"2"}})
			w.pod("d", load().labels(), &plan.Report{Retired: []string{"1"}})
		}, []string{"2"}},
		{"all ready pods do", func(w *world) {
			w.pod("d", load().labels(), &plan.Report{Retired: []string{"1", "2"}})
			w.pod("d", load().labels(), &plan.Report{Retired: []string{"2"}})
			w.pod("d", load().labels(), &plan.Report{}, notReady)
		}, nil},
		{"one of the ready pods does not answer", func(w *world) {
			w.pod("d", load().labels(), &plan.Report{Retired: []string{"2"}})
			w.pod("d", load().labels(), nil)
		}, []string{"2"}},
		{"only a pod that is not ready does", func(w *world) {
			w.pod("d", load().labels(), &plan.Report{Retired: []string{"2"}}, notReady)
		}, []string{"2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := applied(t, load("1", "2"))
			w.apply(load("1"))
			w.sync()
			tt.pods(w)
			w.apply(load("1"))
			if diff := gocmp.Diff(ids(w.stored("d", "trigger-t"))[1], tt.want); diff != "" {
				t.Errorf("retired (-got +want):\n%s", diff)
			}
		})
	}
}

func TestApplyOfNothing(t *testing.T) {
	removed := []string{
		"delete secrets trigger-t", "delete deployments trigger-t", "delete rolebindings trigger-t", "delete roles trigger-t", "delete serviceaccounts trigger-t",
	}
	tests := []struct {
		name string
		load Workload
		want []string
	}{
		{"an empty plan removes the workload", load(), removed},
		{"no plan removes the workload", Workload{Owner: owner(), Name: "trigger-t", Component: "trigger"}, removed},
		{"another workload stays", Workload{Owner: owner(), Name: "trigger-other", Component: "trigger"}, nil},
		{"the one of another owner stays", Workload{Owner: &v1alpha1.Trigger{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "t", UID: "9"}}, Name: "trigger-t", Plan: postponed("1")}, nil},
		{"what waits and has not run brings nothing", Workload{Owner: owner(), Name: "trigger-other", Component: "trigger", Plan: postponed("1")}, nil},
		{"what waits is not what ran", Workload{Owner: owner(), Name: "trigger-t", Component: "trigger", Plan: plan.Declared(plan.Objects{Triggers: []*v1alpha1.Trigger{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "t"}, Spec: v1alpha1.TriggerSpec{Subscribers: []v1alpha1.Subscriber{{Condition: "other"}}},
		}}})}, removed},
		{"what waits stays", Workload{Owner: owner(), Name: "trigger-t", Component: "trigger", LogLevel: "debug", Plan: postponed("1")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := applied(t, load("1"))
			state, got := w.apply(tt.load)
			if diff := gocmp.Diff(got, tt.want); diff != "" {
				t.Errorf("writes (-got +want):\n%s", diff)
			}
			want := State{}
			if tt.name == "what waits stays" {
				want = State{Reason: ReasonStarting, Message: "no pod yet"}
			}
			if state != want {
				t.Errorf("state = %+v, want %+v", state, want)
			}
		})
	}
}

// TestASecretThatIsGoneWhileItsPlanWaits ends nothing: what runs goes on with what it knows.
func TestASecretThatIsGoneWhileItsPlanWaits(t *testing.T) {
	w := applied(t, load("1"))
	if err := w.kube.CoreV1().Secrets("d").Delete(t.Context(), "trigger-t", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.sync()
	if state, got := w.apply(Workload{Owner: owner(), Name: "trigger-t", Component: "trigger", Plan: postponed("1")}); got != nil || state != (State{}) {
		t.Errorf("state = %+v, want none; writes %q, want none", state, got)
	}
}

func TestPrune(t *testing.T) {
	long := Name("trigger-t", string(slices.Repeat([]byte("x"), 99)))
	w := newWorld(t)
	for _, name := range []string{"trigger-t", "trigger-u", long} {
		l := load("1")
		l.Name = name
		w.apply(l)
	}
	other := load("1")
	other.Owner, other.Name = &v1alpha1.Trigger{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "u", UID: "2"}}, "trigger-of-another"
	w.apply(other)
	w.sync()
	w.change([]string{"roles"}, func(o metav1.Object) {
		if o.GetName() == "trigger-u" {
			o.SetDeletionTimestamp(&metav1.Time{Time: time.Unix(1, 0)})
			o.SetFinalizers([]string{"somebody/else"})
		}
	})
	if err := w.clients.Prune(t.Context(), owner(), "trigger-t", "trigger-t-"+string(slices.Repeat([]byte("x"), 99))); err != nil {
		t.Fatal(err)
	}
	// Its Role goes already.
	want := []string{"delete secrets trigger-u", "delete deployments trigger-u", "delete rolebindings trigger-u", "delete serviceaccounts trigger-u"}
	if diff := gocmp.Diff(w.writes(), want); diff != "" {
		t.Errorf("writes (-got +want):\n%s", diff)
	}
	w.sync()
	if err := w.clients.Prune(t.Context(), owner()); err != nil {
		t.Fatal(err)
	}
	if got, want := len(w.writes()), 10; got != want {
		t.Errorf("without names to keep it deleted %d, want %d", got, want)
	}
	if got := len(w.all()["deployments"]); got != 1 {
		t.Errorf("%d Deployments are left, want the other owner's", got)
	}
}

func TestSharedPlan(t *testing.T) {
	w := newWorld(t)
	steps := []struct {
		name string
		plan *plan.Plan
		pod  *plan.Report
		want []string
		ids  [2][]string
	}{
		{"even an empty plan is written", &plan.Plan{}, nil, verbs("create", "secrets"), [2][]string{}},
		{"once", &plan.Plan{}, nil, nil, [2][]string{}},
		{"a plan is written", load("1", "2").Plan, nil, verbs("update", "secrets"), [2][]string{{"1", "2"}}},
		{"and nothing when it stays", load("1", "2").Plan, nil, nil, [2][]string{{"1", "2"}}},
		{"or waits", beside(load("1").Plan, postponed("2")), nil, nil, [2][]string{{"1", "2"}}},
		{"what is dropped is retired", load("1").Plan, nil, verbs("update", "secrets"), [2][]string{{"1"}, {"2"}}},
		{"until it is removed", load("1").Plan, &plan.Report{Retired: []string{"2"}}, verbs("update", "secrets"), [2][]string{{"1"}}},
	}
	for _, tt := range steps {
		if tt.pod != nil {
			w.pod(systemNamespace, sharedPods, tt.pod)
		}
		if err := w.clients.SharedPlan(t.Context(), tt.plan); err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(w.writes(), tt.want); diff != "" {
			t.Errorf("%s: writes (-got +want):\n%s", tt.name, diff)
		}
		w.sync()
		if diff := gocmp.Diff(ids(w.stored(systemNamespace, SharedSecret)), tt.ids); diff != "" {
			t.Errorf("%s: subscribers and retired (-got +want):\n%s", tt.name, diff)
		}
	}
}

// What somebody else put there by that name is taken over: nothing but the controller writes it.
func TestSharedPlanTakesOver(t *testing.T) {
	w := newWorld(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: SharedSecret}, Data: map[string][]byte{"other": nil}})
	if err := w.clients.SharedPlan(t.Context(), load("1").Plan); err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(ids(w.stored(systemNamespace, SharedSecret)), [2][]string{{"1"}}); diff != "" {
		t.Errorf("subscribers and retired (-got +want):\n%s", diff)
	}
	w.sync()
	if _, err := w.clients.Secrets.Secrets(systemNamespace).Get(SharedSecret); err != nil {
		t.Errorf("the informer does not see it: %v", err)
	}
}
