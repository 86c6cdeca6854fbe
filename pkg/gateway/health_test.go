package gateway

import (
	"errors"
	"testing"

	"github.com/openfunction/events/pkg/gateway/bus"
)

// fullBus is a bus whose disk is full.
type fullBus struct{ bus.Bus }

func (fullBus) Ready() error { return errors.New("its disk is full") }

func TestReadySaysWhatIsBehindWhat(t *testing.T) {
	b, g := &openBus{Bus: fullBus{}, name: "bus"}, &Gateway{}
	g.applied.Store(&applied{
		buses: map[string]*openBus{"bus": b},
		needs: map[string][]need{"t": {{name: "subscriber", behind: b}, {name: "new", behind: b}, {name: "source"}}},
	})
	g.health.set("subscriber", errors.New("server shutdown"))
	g.health.set("new", errStarting)
	g.health.set("source", errors.New("no route to it"))
	if got, want := g.Ready().Error(), "bus: its disk is full\nnew: starting\nsource: no route to it"; got != want {
		t.Errorf("Ready() = %q, want %q", got, want)
	}
}
