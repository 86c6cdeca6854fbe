package eventbus

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgotesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	"knative.dev/pkg/apis"
	kubeclient "knative.dev/pkg/client/injection/kube/client/fake"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/kmeta"
	"knative.dev/pkg/logging"
	pkgreconciler "knative.dev/pkg/reconciler"
	rt "knative.dev/pkg/reconciler/testing"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	eventsclient "github.com/openfunction/events/pkg/client/injection/client/fake"
	"github.com/openfunction/events/pkg/client/injection/informers/events/v1alpha1/eventbus"
	reconciler "github.com/openfunction/events/pkg/client/injection/reconciler/events/v1alpha1/eventbus"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/broker"
	"github.com/openfunction/events/pkg/reconciler/objects"
	. "github.com/openfunction/events/pkg/reconciler/testing"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

type option = func(*v1alpha1.EventBusSpec, *v1alpha1.EventBusStatus)

// fresh is a bus that nobody has looked at.
func fresh(_ *v1alpha1.EventBusSpec, s *v1alpha1.EventBusStatus) { *s = v1alpha1.EventBusStatus{} }

func noBackend(spec *v1alpha1.EventBusSpec, _ *v1alpha1.EventBusStatus) { spec.JetStream = nil }

func twoReplicas(spec *v1alpha1.EventBusSpec, _ *v1alpha1.EventBusStatus) {
	spec.Embedded.Replicas = new(int32(2))
}

func waiting(why string) option {
	return func(_ *v1alpha1.EventBusSpec, s *v1alpha1.EventBusStatus) { s.MarkWaiting("%s", why) }
}

func unreachable(reason, why string) option {
	return func(_ *v1alpha1.EventBusSpec, s *v1alpha1.EventBusStatus) { s.MarkUnreachable(reason, "%s", why) }
}

func losing(how string) option {
	return func(_ *v1alpha1.EventBusSpec, s *v1alpha1.EventBusStatus) { s.MarkLosing(how) }
}

func full(why string) option {
	return func(_ *v1alpha1.EventBusSpec, s *v1alpha1.EventBusStatus) { s.MarkFull(why) }
}

func seen(generation int64) option {
	return func(_ *v1alpha1.EventBusSpec, s *v1alpha1.EventBusStatus) { s.ObservedGeneration = generation }
}

func servers(v v1alpha1.Verdict) option {
	return func(_ *v1alpha1.EventBusSpec, s *v1alpha1.EventBusStatus) { s.MarkServers(v) }
}

func usedBy(eventSources, triggers []string) option {
	return func(_ *v1alpha1.EventBusSpec, s *v1alpha1.EventBusStatus) { s.MarkUsers(eventSources, triggers) }
}

func bus(options ...option) *v1alpha1.EventBus { return EventBus("default", "b", options...) }

func generation(n int64, b *v1alpha1.EventBus) *v1alpha1.EventBus {
	b.Generation = n
	return b
}

func update(b *v1alpha1.EventBus) []clientgotesting.UpdateActionImpl {
	return []clientgotesting.UpdateActionImpl{{Object: b}}
}

// running is a gateway that runs the bus of the builder, and says this of it.
func running(s workload.State) map[string]any {
	p := plan.Plan{Buses: []plan.Bus{{Name: "EventBus default/b", JetStream: &plan.JetStream{
		URL: "nats://nats.nats:4222", Replicas: 1, AckWait: 10 * time.Second, MaxInFlight: 256,
	}}}}
	return map[string]any{"hashes": p.Hashes(), "state": s}
}

// after adds when the bus is looked at again.
func after(d time.Duration, data map[string]any) map[string]any {
	data["after"] = d
	return data
}

func TestEventBus(t *testing.T) {
	answers, loses := workload.State{Ready: true}, workload.State{Ready: true, Losing: "stream s loses events"}
	away := workload.State{Reason: workload.ReasonUnreachable, Message: "dial nats.nats:4222: connection refused"}
	starting := workload.State{Reason: "Starting", Message: "0 of 1 servers are ready: there is no pod eventbus-b-0"}
	notRunning := workload.State{Reason: "NotRunning", Message: "2 of 3 servers are ready: pod eventbus-b-1: CrashLoopBackOff"}
	refused := workload.State{Reason: "Refused", Message: "exceeded quota"}
	embedded, err := broker.PlaceOf("EventBus", "default", "b").Connect(bus(Embedded).Spec.Embedded, Servers("default", "eventbus-b").Data)
	if err != nil {
		t.Fatal(err)
	}
	embeddedHashes := (&plan.Plan{Buses: []plan.Bus{{Name: "EventBus default/b", JetStream: embedded}}}).Hashes()
	leaves := workload.State{Reason: workload.ReasonPredecessorLeaves, Message: "Secret default/eventbus-b is being removed"}
	const notApplied = "the gateway runs another plan"
	const noBackendMessage = "spec: has no backend: set exactly one of natsStreaming, jetStream, kafka or embedded (embedded: {} needs no server)"
	const twoReplicasMessage = "spec.embedded.replicas: 2 is not possible: a majority must be able to decide, use 1 or 3"
	eleven := []runtime.Object{bus(seen(1))}
	var names []string
	for i := range 11 {
		name := fmt.Sprintf("es-%02d", i)
		eleven = append(eleven, EventSource("default", name, WithHTTP("e"), WithBus("b")))
		names = append(names, "EventSource default/"+name)
	}

	rt.TableTest{{
		Name: "a key that is none is forgotten",
		Key:  "a/b/c",
	}, {
		Name: "a bus that is gone is forgotten",
		Key:  "default/b",
	}, {
		Name:              "a new bus waits for the gateway",
		Key:               "default/b",
		Objects:           []runtime.Object{bus(fresh)},
		OtherTestData:     after(pollMin, map[string]any{}),
		WantStatusUpdates: update(bus(fresh, waiting(notApplied), seen(1))),
	}, {
		Name: "a bus that answers is Running, and says who uses it",
		Key:  "default/b",
		Objects: []runtime.Object{
			bus(fresh),
			EventSource("default", "z", WithHTTP("e"), WithBus("b")), EventSource("default", "a", WithHTTP("e"), WithBus("b")),
			Trigger("default", "t", OnBus("b")), Trigger("default", "other", OnBus("c")), Trigger("elsewhere", "t", OnBus("b")),
		},
		OtherTestData: after(pollReachable, running(answers)),
		WantStatusUpdates: update(bus(seen(1), usedBy(
			[]string{"EventSource default/a", "EventSource default/z"}, []string{"Trigger default/t"}))),
		WantEvents: []string{"Normal Reachable the broker answers"},
	}, {
		Name:          "a bus that goes on answering is left alone",
		Key:           "default/b",
		Objects:       []runtime.Object{bus(seen(1))},
		OtherTestData: after(pollReachable, running(answers)),
	}, {
		Name:              "a bus that answers and loses events is Running, and says how",
		Key:               "default/b",
		Objects:           []runtime.Object{bus(seen(1))},
		OtherTestData:     after(pollReachable, running(loses)),
		WantStatusUpdates: update(bus(seen(1), losing("stream s loses events"))),
	}, {
		Name:          "which is not written again",
		Key:           "default/b",
		Objects:       []runtime.Object{bus(seen(1), losing("stream s loses events"))},
		OtherTestData: after(pollReachable, running(loses)),
	}, {
		Name:              "a bus that loses none any more says nothing of it",
		Key:               "default/b",
		Objects:           []runtime.Object{bus(seen(1), losing("stream s loses events"))},
		OtherTestData:     after(pollReachable, running(answers)),
		WantStatusUpdates: update(bus(seen(1))),
	}, {
		Name:              "a bus that is full answers all the same, and says so",
		Key:               "default/b",
		Objects:           []runtime.Object{bus(seen(1))},
		OtherTestData:     after(pollReachable, running(workload.State{Ready: true, Failing: "no room"})),
		WantStatusUpdates: update(bus(seen(1), full("no room"))),
	}, {
		Name:              "a bus that has room again",
		Key:               "default/b",
		Objects:           []runtime.Object{bus(seen(1), full("no room"))},
		OtherTestData:     after(pollReachable, running(answers)),
		WantStatusUpdates: update(bus(seen(1))),
	}, {
		Name: "a bus that its users see full, which the shared gateway does not",
		Key:  "default/b",
		Objects: []runtime.Object{
			bus(seen(1)),
			EventSource("default", "es", WithHTTP("e"), WithBus("b"), func(es *v1alpha1.EventSource) {
				es.Status.Mark(v1alpha1.Full("no room for x"), v1alpha1.Good(), v1alpha1.Good())
			}),
			EventSource("default", "other", WithHTTP("e"), WithBus("other"), func(es *v1alpha1.EventSource) {
				es.Status.Mark(v1alpha1.Full("another has none"), v1alpha1.Good(), v1alpha1.Good())
			}),
			Trigger("default", "t", OnBus("b"), func(t *v1alpha1.Trigger) {
				t.Status.Mark(v1alpha1.Full("no room for topic m"), v1alpha1.Good(), v1alpha1.Good())
			}),
		},
		OtherTestData:     after(pollReachable, running(answers)),
		WantStatusUpdates: update(bus(seen(1), full("no room for topic m"), usedBy([]string{"EventSource default/es"}, []string{"Trigger default/t"}))),
	}, {
		Name: "a bus that one of its users sees lose events, and another full",
		Key:  "default/b",
		Objects: []runtime.Object{
			bus(seen(1)),
			Trigger("default", "t", OnBus("b"), func(t *v1alpha1.Trigger) {
				t.Status.Mark(v1alpha1.Full("no room for topic m"), v1alpha1.Good(), v1alpha1.Good())
			}),
			Trigger("default", "u", OnBus("b"), func(t *v1alpha1.Trigger) {
				t.Status.Mark(v1alpha1.LosesEvents("topic m expires"), v1alpha1.Good(), v1alpha1.Good())
			}),
		},
		OtherTestData:     after(pollReachable, running(answers)),
		WantStatusUpdates: update(bus(seen(1), losing("topic m expires"), usedBy(nil, []string{"Trigger default/t", "Trigger default/u"}))),
	}, {
		Name:              "users beyond ten are only counted",
		Key:               "default/b",
		Objects:           eleven,
		OtherTestData:     after(pollReachable, running(answers)),
		WantStatusUpdates: update(bus(seen(1), usedBy(names, nil))),
	}, {
		Name:              "a bus that does not answer says the gateway's sentence",
		Key:               "default/b",
		Objects:           []runtime.Object{bus(seen(1))},
		OtherTestData:     after(pollMin, running(away)),
		WantStatusUpdates: update(bus(unreachable("Unreachable", away.Message), seen(1))),
		WantEvents:        []string{"Warning Unreachable " + away.Message},
	}, {
		Name:              "a gateway that refuses its plan is told as it is",
		Key:               "default/b",
		Objects:           []runtime.Object{bus(seen(1))},
		OtherTestData:     after(pollMin, running(workload.State{Reason: workload.ReasonNotApplied, Message: "no"})),
		WantStatusUpdates: update(bus(unreachable("NotApplied", "no"), seen(1))),
		WantEvents:        []string{"Warning NotApplied no"},
	}, {
		Name:              "another sentence about the same trouble is no Kubernetes Event",
		Key:               "default/b",
		Objects:           []runtime.Object{bus(unreachable("Unreachable", "no route"), seen(1))},
		OtherTestData:     after(pollMin, running(away)),
		WantStatusUpdates: update(bus(unreachable("Unreachable", away.Message), seen(1))),
	}, {
		Name:              "an edit that changes nothing for the gateway is only noted",
		Key:               "default/b",
		Objects:           []runtime.Object{generation(2, bus(seen(1)))},
		OtherTestData:     after(pollReachable, running(answers)),
		WantStatusUpdates: update(generation(2, bus(seen(2)))),
	}, {
		Name:              "a bus that leads elsewhere now waits until the gateway has followed",
		Key:               "default/b",
		Objects:           []runtime.Object{generation(2, bus(WithURL("nats://other:4222"), seen(1)))},
		OtherTestData:     after(pollMin, running(answers)),
		WantStatusUpdates: update(generation(2, bus(WithURL("nats://other:4222"), waiting(notApplied), seen(2)))),
		WantEvents:        []string{"Normal Waiting " + notApplied},
	}, {
		Name:          "an embedded bus waits for its servers",
		Key:           "default/b",
		Objects:       []runtime.Object{bus(Embedded, fresh), Servers("default", "eventbus-b")},
		OtherTestData: after(pollMin, map[string]any{"servers": starting}),
		WantStatusUpdates: update(bus(Embedded, fresh, waiting("0 of 1 servers are ready: there is no pod eventbus-b-0"),
			servers(v1alpha1.Pending("Starting", starting.Message)), seen(1))),
	}, {
		Name:          "a server that cannot run says why, which is more than that nobody answers",
		Key:           "default/b",
		Objects:       []runtime.Object{bus(Embedded, seen(1)), Servers("default", "eventbus-b")},
		OtherTestData: after(pollMin, map[string]any{"servers": notRunning}),
		WantStatusUpdates: update(bus(Embedded, unreachable("NotRunning", notRunning.Message),
			servers(v1alpha1.Bad("NotRunning", notRunning.Message)), seen(1))),
		WantEvents: []string{"Warning NotRunning " + notRunning.Message},
	}, {
		Name:          "servers that cannot be made say why",
		Key:           "default/b",
		Objects:       []runtime.Object{bus(Embedded, seen(1))},
		OtherTestData: after(pollMin, map[string]any{"servers": refused}),
		WantStatusUpdates: update(bus(Embedded, unreachable("Refused", refused.Message),
			servers(v1alpha1.Bad("Refused", refused.Message)), seen(1))),
		WantEvents: []string{"Warning Refused exceeded quota"},
	}, {
		Name:          "a bus that is made again waits until the servers of the one before are gone, even if those answer",
		Key:           "default/b",
		Objects:       []runtime.Object{bus(Embedded, fresh), Servers("default", "eventbus-b")},
		OtherTestData: after(pollMin, map[string]any{"servers": leaves, "state": answers, "hashes": embeddedHashes}),
		WantStatusUpdates: update(bus(Embedded, fresh, waiting(leaves.Message),
			servers(v1alpha1.Pending("PredecessorLeaves", leaves.Message)), seen(1))),
	}, {
		Name:          "nothing is known of the servers of a bus that is invalid",
		Key:           "default/b",
		Objects:       []runtime.Object{bus(Embedded, twoReplicas, servers(v1alpha1.Good()), seen(1)), Servers("default", "eventbus-b")},
		OtherTestData: map[string]any{"error": errors.New("the servers were touched")},
		WantStatusUpdates: update(bus(Embedded, twoReplicas, unreachable(plan.ReasonInvalid, twoReplicasMessage),
			servers(v1alpha1.Pending(plan.ReasonInvalid, "not looked at until the object is valid")), seen(1))),
		WantEvents: []string{"Warning Invalid " + twoReplicasMessage},
	}, {
		Name:              "a bus that has no servers any more says nothing of them",
		Key:               "default/b",
		Objects:           []runtime.Object{bus(servers(v1alpha1.Good()), seen(1))},
		OtherTestData:     after(pollReachable, running(answers)),
		WantStatusUpdates: update(bus(seen(1))),
	}, {
		Name:    "one of the servers may be away",
		Key:     "default/b",
		Objects: []runtime.Object{bus(Embedded, servers(v1alpha1.Good()), seen(1)), Servers("default", "eventbus-b")},
		OtherTestData: after(pollReachable, map[string]any{
			"servers": notRunning, "state": answers, "hashes": embeddedHashes,
		}),
		WantStatusUpdates: update(bus(Embedded, servers(v1alpha1.Bad("NotRunning", notRunning.Message)), seen(1))),
	}, {
		Name:          "while the servers cannot be looked at the status stays",
		Key:           "default/b",
		Objects:       []runtime.Object{bus(Embedded, seen(1))},
		OtherTestData: after(pollMax, map[string]any{"error": errors.New("connection refused")}),
	}, {
		Name:              "a bus that is invalid since an upgrade says so, and is no error",
		Key:               "default/b",
		Objects:           []runtime.Object{bus(noBackend, seen(1))},
		OtherTestData:     running(answers),
		WantStatusUpdates: update(bus(noBackend, unreachable(plan.ReasonInvalid, noBackendMessage), seen(1))),
		WantEvents:        []string{"Warning Invalid " + noBackendMessage},
	}, {
		Name:          "a missing Secret is looked for again",
		Key:           "default/b",
		Objects:       []runtime.Object{bus(WithToken("s"), fresh)},
		OtherTestData: after(pollMin, running(answers)),
		WantStatusUpdates: update(bus(WithToken("s"), fresh, unreachable(plan.ReasonSecretNotFound,
			`spec.jetStream.tokenFrom: key "token" of Secret default/s: there is no such Secret: create it, or correct the name`), seen(1))),
		WantEvents: []string{`Warning SecretNotFound spec.jetStream.tokenFrom: key "token" of Secret default/s: there is no such Secret: create it, or correct the name`},
	}, {
		Name:          "while the API server does not answer the status stays",
		Key:           "default/b",
		Objects:       []runtime.Object{bus(WithToken("s"), seen(1))},
		OtherTestData: after(pollMax, running(away)),
		WithReactors: []clientgotesting.ReactionFunc{func(a clientgotesting.Action) (bool, runtime.Object, error) {
			return a.Matches("get", "secrets"), nil, errors.New("connection refused")
		}},
	}}.Test(t, newReconciler)
}

func newReconciler(t *testing.T, row *rt.TableRow) (controller.Reconciler, rt.ActionRecorderList, rt.EventList) {
	ctx := NewWorld(t, row.Objects...).Ctx
	for _, reactor := range row.WithReactors {
		kubeclient.Get(ctx).PrependReactor("*", "*", reactor)
	}
	hashes, _ := row.OtherTestData["hashes"].(map[string]string)
	state, _ := row.OtherTestData["state"].(workload.State)
	shared := func(_ context.Context, object, hash string) workload.State {
		if hashes[object] != hash {
			return workload.State{Reason: "Anything", Message: "the gateway runs another plan"}
		}
		return state
	}
	made := func(context.Context, kmeta.OwnerRefable, *v1alpha1.EmbeddedSpec) (workload.State, error) {
		state, _ := row.OtherTestData["servers"].(workload.State)
		err, _ := row.OtherTestData["error"].(error)
		return state, err
	}
	recorder := record.NewFakeRecorder(10)
	client := eventsclient.Get(ctx)
	r := reconciler.NewReconciler(ctx, logging.FromContext(ctx), client, eventbus.Get(ctx).Lister(), recorder,
		&Reconciler{observer: &Observer{Objects: objects.NewReader(ctx, &rt.FakeTracker{}), Shared: shared, Servers: made}})
	if err := r.(pkgreconciler.LeaderAware).Promote(pkgreconciler.UniversalBucket(), func(pkgreconciler.Bucket, types.NamespacedName) {}); err != nil {
		t.Fatal(err)
	}
	return again{r, t, row}, rt.ActionRecorderList{client, kubeclient.Get(ctx)}, rt.EventList{Recorder: recorder}
}

// again checks when a row wants to be reconciled again, which knative's table takes for an error.
type again struct {
	controller.Reconciler
	t   *testing.T
	row *rt.TableRow
}

func (a again) Reconcile(ctx context.Context, key string) error {
	err := a.Reconciler.Reconcile(ctx, key)
	want, wanted := a.row.OtherTestData["after"].(time.Duration)
	requeued, got := controller.IsRequeueKey(err)
	if requeued != wanted || got != want {
		a.t.Errorf("looked at again: %v after %v, want %v after %v", requeued, got, wanted, want)
	}
	if requeued {
		return nil
	}
	return err
}

func TestPoll(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		status corev1.ConditionStatus
		age    time.Duration
		want   time.Duration
	}{
		{corev1.ConditionTrue, 0, pollReachable},
		{corev1.ConditionTrue, time.Hour, pollReachable},
		{corev1.ConditionUnknown, -time.Second, pollMin}, // clocks differ
		{corev1.ConditionUnknown, 0, pollMin},
		{corev1.ConditionUnknown, 4 * time.Second, 800 * time.Millisecond},
		{corev1.ConditionFalse, time.Hour, pollMax},
	} {
		c := &apis.Condition{Status: tt.status}
		c.LastTransitionTime.Inner.Time = now.Add(-tt.age)
		if got := poll(c, now); got != tt.want {
			t.Errorf("poll of %s since %v = %v, want %v", tt.status, tt.age, got, tt.want)
		}
	}
}
