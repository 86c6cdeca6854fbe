package ingress_test

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/openfunction/events/pkg/gateway/ingress"
)

func TestHandshake(t *testing.T) {
	var next inbox
	_, h := serving(t, ingress.Options{}, route(&next))
	for _, path := range []string{eventPath, "/ns/es/unknown", "/"} {
		for origin, want := range map[string]string{"": "*", "sender.example": "sender.example"} {
			header := http.Header{}
			if origin != "" {
				header.Set("WebHook-Request-Origin", origin)
			}
			response := do(h, "OPTIONS", path, header, nil)
			got := response.Header
			if response.StatusCode != 200 || got.Get("Allow") != "POST, OPTIONS" || got.Get("WebHook-Allowed-Origin") != want || got.Get("WebHook-Allowed-Rate") != "*" {
				t.Errorf("OPTIONS %s from %q = %d %v, want 200 that allows %s to post", path, origin, response.StatusCode, got, want)
			}
		}
	}
}

func TestProbes(t *testing.T) {
	var notReady error
	i, h := serving(t, ingress.Options{Ready: func() error { return notReady }})
	probe := headers("User-Agent: kube-probe/1.34")
	check := func(when, path string, header http.Header, status int, says string) {
		t.Helper()
		response := do(h, "GET", path, header, nil)
		body, _ := io.ReadAll(response.Body)
		if response.StatusCode != status || string(body) != says+"\n" {
			t.Errorf("%s: GET %s = %d %q, want %d %q", when, path, response.StatusCode, body, status, says)
		}
	}
	check("ready", "/healthz", nil, 200, "ok")
	check("ready", "/readyz", nil, 200, "ok")
	check("ready", "/any", probe, 200, "ok")

	notReady = errors.New("EventBus a: away\nEventBus b: away")
	check("not ready", "/healthz", probe, 200, "ok")
	check("not ready", "/readyz", nil, 503, notReady.Error())
	check("not ready", "/any", probe, 503, notReady.Error())

	notReady = nil
	i.Drain()
	check("draining", "/healthz", probe, 200, "ok")
	check("draining", "/readyz", nil, 503, "shutting down")
	check("draining", "/any", probe, 503, "shutting down")
}

func TestDrainStillServes(t *testing.T) {
	var next inbox
	i, h := serving(t, ingress.Options{}, route(&next))
	if got := do(h, "POST", eventPath, binaryWith(), nil).Header.Get("Connection"); got != "" {
		t.Errorf("Connection before = %q, want none", got)
	}
	i.Drain()
	response := do(h, "POST", eventPath, binaryWith(), nil)
	if got := response.Header.Get("Connection"); response.StatusCode != accepted || got != "close" {
		t.Errorf("a post while draining = %d with Connection %q, want %d with close", response.StatusCode, got, accepted)
	}
	i.Close()
	i.Close()
	response = do(h, "POST", eventPath, binaryWith(), nil)
	if got := response.Header.Get("Retry-After"); response.StatusCode != 503 || got != "1" {
		t.Errorf("a post after Close = %d with Retry-After %q, want 503 with 1", response.StatusCode, got)
	}
	if len(next.took) != 2 {
		t.Errorf("%d events taken, want 2", len(next.took))
	}
}
