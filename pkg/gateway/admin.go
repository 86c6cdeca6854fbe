package gateway

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/openfunction/events/pkg/plan"
)

var (
	errDraining = errors.New("shutting down")
	errNoPlan   = errors.New("no plan was applied yet")
)

// ready is what probes are told, see Options.Serving.
func (g *Gateway) ready() error {
	switch {
	case g.draining.Load():
		return errDraining
	case g.applied.Load() == nil:
		return errNoPlan
	case g.o.Serving:
		return nil
	}
	err := g.Ready()
	if g.o.Besides != nil {
		err = errors.Join(err, g.o.Besides())
	}
	return err
}

// adminHandler serves the cluster: its probes, and the controller that asks what runs.
func (g *Gateway) adminHandler() http.Handler {
	r := chi.NewRouter()
	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	r.Get("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := g.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	r.Get(plan.ReportPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(g.Report()) // an error of the connection, which has nobody to tell
	})
	return r
}

// metricsHandler serves whoever collects metrics. They have a port of their own, since more may connect to that than to the one of the report.
func (g *Gateway) metricsHandler() http.Handler {
	r := chi.NewRouter()
	r.Method(http.MethodGet, "/metrics", g.metrics.Handler())
	return r
}

// well tells of each object of the plan whether it has no problem.
func (g *Gateway) well() map[string]bool {
	all := map[string]bool{}
	for owner, o := range g.Report().Objects {
		all[owner] = len(o.Problems) == 0
	}
	return all
}
