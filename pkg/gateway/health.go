package gateway

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// health is what is not ready, by the name of the part.
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

// err returns what is not ready, except for those that do not matter.
func (h *health) err(matters func(name string) bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []error
	for _, name := range slices.Sorted(maps.Keys(h.bad)) {
		if matters(name) {
			all = append(all, fmt.Errorf("%s: %w", name, h.bad[name]))
		}
	}
	return errors.Join(all...)
}

// Ready returns nil when every bus answers, every subscription exists and every source receives;
// otherwise an error that lists what does not, one per line. A bus with nothing but retired subscriptions does not count.
func (g *Gateway) Ready() error {
	a := g.applied.Load()
	return g.health.err(func(name string) bool { return a == nil || !a.leftover[name] })
}
