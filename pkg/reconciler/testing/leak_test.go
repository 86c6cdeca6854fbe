package testing

import (
	"errors"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgotesting "k8s.io/client-go/testing"
)

func TestLeaks(t *testing.T) {
	write := func(resource string, o runtime.Object) []clientgotesting.Action {
		return []clientgotesting.Action{clientgotesting.NewCreateAction(schema.GroupVersionResource{Resource: resource}, "shop", o)}
	}
	deployment := &appsv1.Deployment{}
	deployment.Annotations = map[string]string{"plan": "hunter2"}
	es := EventSource("shop", "es", WithSink(URI("http://me:hunter2@sink")))
	told := es.DeepCopy()
	told.Status.SinkURI = told.Spec.Sink.URI
	status := func(o runtime.Object) []clientgotesting.Action {
		return []clientgotesting.Action{clientgotesting.NewUpdateSubresourceAction(schema.GroupVersionResource{Resource: "eventsources"}, "status", "shop", o)}
	}
	core, logs := observer.New(zapcore.InfoLevel)
	zap.New(core).Sugar().Infow("read", "value", struct{ Token string }{"t0ken"})
	for _, tt := range []struct {
		name    string
		actions []clientgotesting.Action
		pass    Pass
		logs    []observer.LoggedEntry
		want    int
	}{
		{"a Secret may", write("secrets", Secret("shop", "s")), Pass{}, nil, 0},
		{"a Deployment may not", write("deployments", deployment), Pass{}, nil, 1},
		{"a spec may, when a status is written", status(es), Pass{}, nil, 0},
		{"a status may not", status(told), Pass{}, nil, 1},
		{"an Event may not", nil, Pass{Events: []string{"Warning: hunter2"}}, nil, 1},
		{"an error may not", nil, Pass{Err: errors.New("dial u:hunter2@host")}, nil, 1},
		{"a log may not", nil, Pass{}, logs.All(), 1},
	} {
		if got := leaks(tt.actions, tt.pass, tt.logs); len(got) != tt.want {
			t.Errorf("%s: leaks() = %q, want %d", tt.name, got, tt.want)
		}
	}
}
