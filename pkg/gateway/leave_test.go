package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/openfunction/events/pkg/plan"
)

// TestTheSessionOfAMemberEndsWithIt once nobody comes back for it.
func TestTheSessionOfAMemberEndsWithIt(t *testing.T) {
	for _, gone := range []bool{false, true} {
		server := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		listener := listeners.NewTCP(listeners.Config{ID: "test", Address: "127.0.0.1:0"})
		for _, err := range []error{server.AddHook(new(auth.AllowHook), nil), server.AddListener(listener), server.Serve()} {
			if err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { _ = server.Close() })
		r := startWith(t, func(o *Options) { o.AtEnd = func(context.Context) bool { return gone } })
		r.apply(t, &plan.Plan{Sources: []plan.Source{{
			Namespace: "ns", EventSource: "es", Event: "ev", Kind: plan.KindMQTT, Sink: display("x"),
			MQTT: &plan.MQTT{URL: "tcp://" + listener.Address(), Topic: "t", Version: 5, QOS: 1, ClientID: "client", Group: "g", Members: 2, Member: 1},
		}}})
		r.stop()
		exists := func() bool {
			_, exists := server.Clients.Get("client-e42e2fc8-1")
			return exists
		}
		if !gone && !exists() {
			t.Error("somebody comes back, and the session is not there")
		}
		if gone {
			eventually(t, "the session ends", func() error { // the broker has the end of the connection to work on
				if exists() {
					return errors.New("it is there")
				}
				return nil
			})
		}
	}
}
