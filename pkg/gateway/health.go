package gateway

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// health is what is not ready, by the name of the part. Buses are not in it: they are asked.
type health struct {
	mu  sync.Mutex
	bad map[string]error
}

func (h *health) set(name string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		delete(h.bad, name)
		return
	}
	if h.bad == nil {
		h.bad = map[string]error{}
	}
	h.bad[name] = err
}

func (h *health) get(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bad[name]
}

// all returns a copy.
func (h *health) all() map[string]error {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]error{}
	maps.Copy(all, h.bad)
	return all
}

// Ready returns nil when every bus answers, every subscription exists and every source receives;
// otherwise an error that lists what does not, one per line; not subscriptions to a bus that does not answer, unless they are starting. A bus with nothing but retired subscriptions does not count.
func (g *Gateway) Ready() error {
	bad := g.health.all()
	if a := g.applied.Load(); a != nil {
		for name, b := range a.buses {
			if err := b.Ready(); err != nil {
				bad[name] = err
			}
		}
	}
	if a := g.applied.Load(); a != nil {
		for _, needs := range a.needs {
			for _, n := range needs {
				if n.behind != nil && bad[n.behind.name] != nil && !errors.Is(bad[n.name], errStarting) {
					delete(bad, n.name)
				}
			}
		}
	}
	var all []error
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		all = append(all, fmt.Errorf("%s: %w", name, bad[name]))
	}
	return errors.Join(all...)
}
