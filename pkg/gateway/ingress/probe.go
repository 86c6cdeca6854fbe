package ingress

import (
	"net/http"
	"strings"
)

const (
	eventMethods = "POST, OPTIONS"
	probeMethods = "GET, HEAD"
)

// always comes before routing: what every path answers alike.
func (i *Ingress) always(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		switch {
		case r.Method == http.MethodOptions:
			handshake(w, r)
		case r.Method == http.MethodGet && r.URL.Path != "/healthz" && strings.HasPrefix(r.UserAgent(), "kube-probe/"):
			i.readyz(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// handshake grants what a sender of webhooks asks for before it posts, at once and without a limit:
// who may post is decided per request.
func handshake(w http.ResponseWriter, r *http.Request) {
	origin := r.Header.Get("WebHook-Request-Origin")
	if origin == "" {
		origin = "*"
	}
	h := w.Header()
	h.Set("Allow", eventMethods)
	h.Set("WebHook-Allowed-Origin", origin)
	h.Set("WebHook-Allowed-Rate", "*")
	w.WriteHeader(http.StatusOK)
}

// healthz says that the process serves; whether it can do its work is readyz's answer.
func healthz(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok") }

func (i *Ingress) readyz(w http.ResponseWriter, _ *http.Request) {
	if i.draining.Load() {
		text(w, http.StatusServiceUnavailable, "shutting down")
		return
	}
	if i.o.Ready != nil {
		if err := i.o.Ready(); err != nil {
			text(w, http.StatusServiceUnavailable, err.Error())
			return
		}
	}
	text(w, http.StatusOK, "ok")
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	text(w, http.StatusNotFound, "nothing is served here: post events to /{namespace}/{eventSource}/{event}")
}

func methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	allow := eventMethods
	if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		allow = probeMethods
	}
	w.Header().Set("Allow", allow)
	text(w, http.StatusMethodNotAllowed, "method "+r.Method+" is not allowed here: use one of "+allow)
}
