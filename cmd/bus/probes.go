package main

import (
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
)

// probes answers whether the server is alive and ready. Before there is one it is only alive.
type probes struct {
	server atomic.Pointer[embedded.Server]
}

func (p *probes) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		var err error
		if s := p.server.Load(); s != nil {
			err = s.Alive()
		}
		answer(w, err)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		err := errors.New("starting")
		if s := p.server.Load(); s != nil {
			err = s.Ready()
		}
		answer(w, err)
	})
	return mux
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}
