package jetstream_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
	"github.com/openfunction/events/pkg/plan"
)

// A server that starts again because its disk is full is away for that moment: what is said is that its disk is full, and who publishes hears nothing of its files.
func TestTroubleIsSaidInPlaceOfWhatItCauses(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	full := fmt.Errorf("the disk of /private is full: %w", syscall.ENOSPC)
	for _, tt := range []struct {
		why  error
		says string
		full bool
	}{
		{full, "its disk is full", true},
		{errors.New("/private: input/output error"), "it cannot use its disk", false},
	} {
		b := jetstream.New(logging.WithLogger(t.Context(), zap.New(core).Sugar()), jetstream.Options{
			Name: "b", Trouble: func() error { return tt.why }, Config: plan.JetStream{URL: "nats://127.0.0.1:1", Replicas: 1},
		})
		err := b.Topic(bus.Topic{Name: "metrics"}).Handle(t.Context(), newEvent(t, "e", nil))
		var away *event.Unavailable
		if !errors.As(err, &away) || away.Full != tt.full || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "/private") {
			t.Errorf("Handle() = %v, want that %s, and no path", err, tt.says)
		}
		if err := b.Ready(); !errors.Is(err, tt.why) {
			t.Errorf("Ready() = %v, want %v", err, tt.why)
		}
		_ = b.Close()
	}
	if n := logs.FilterMessageSnippet("the bus is").Len(); n != 0 {
		t.Errorf("%d times that it is away or back, want none", n)
	}
}
