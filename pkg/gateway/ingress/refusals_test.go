package ingress_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/ingress"
)

func TestWhatIsRefusedIsLoggedOnceInAWhile(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	ctx := logging.WithLogger(context.Background(), zap.New(core).Sugar())
	var c clock
	signed := guarded(&inbox{}, github)
	full := route(fails(event.ErrTooLarge))
	full.Event = "full"
	away := route(fails(errors.New("connection refused")))
	away.Event = "away"
	routes := []ingress.RouteOptions{signed, full, away}
	i, h := serving(t, ingress.Options{Now: c.now}, routes...)
	post := func(times int, path string, header http.Header, body string) {
		t.Helper()
		for range times {
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)).WithContext(ctx)
			r.Header = header
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	const wrong = "header X-Hub-Signature-256 is not the signature of this body: sign it, byte for byte, with the secret of this event"
	stranger := headers("X-Hub-Signature-256: sha256=" + mac("stranger-secret", "private"))
	steps := []struct {
		name string
		do   func()
		want []string
	}{
		{"an event that is taken", func() {
			post(1, eventPath, headers("X-Hub-Signature-256: sha256="+mac("new-secret", "private")), "private")
		}, nil},
		{"a path that nobody declared", func() { post(1, "/ns/es/nobody", nil, "") }, nil},
		{"what the bus does not take now", func() { post(1, "/ns/es/away", binaryWith(), "") }, nil},
		{"a wrong secret, again and again", func() { post(1000, eventPath, stranger, "private") },
			[]string{"warn post refused: EventSource ns/es http event e 401 " + wrong + ", 0 more"}},
		{"another status of this event", func() { post(2, eventPath, stranger, strings.Repeat("x", 1001)) },
			[]string{"warn post refused: EventSource ns/es http event e 413 the body is larger than 1000 bytes: send less at once, or raise maxBodyBytes of the event, 0 more"}},
		{"another event", func() { post(2, "/ns/es/full", headers(), "private") },
			[]string{"warn post refused: EventSource ns/es http event full 400 the request is not a CloudEvent: send ce-specversion, ce-id, ce-source and ce-type headers " +
				"or content type application/cloudevents+json, or set raw: true on event full of EventSource ns/es, 0 more"}},
		{"an event that the bus never takes", func() { post(1, "/ns/es/full", binaryWith(), "private") },
			[]string{"warn post refused: EventSource ns/es http event full 413 " + event.ErrTooLarge.Error() + ", 0 more"}},
		{"another plan, a little later", func() { c.advance(29 * time.Second); serve(t, i, routes...); post(1, eventPath, stranger, "private") }, nil},
		{"half a minute later", func() { c.advance(time.Second); post(10, eventPath, stranger, "private") },
			[]string{"warn post refused: EventSource ns/es http event e 401 " + wrong + ", 1000 more"}},
	}
	for _, s := range steps {
		s.do()
		var got []string
		for _, e := range logs.TakeAll() {
			f := e.ContextMap()
			got = append(got, fmt.Sprintf("%s %s: %v %v %v, %v more", e.Level, e.Message, f["event"], f["status"], f["error"], f["more"]))
		}
		if diff := cmp.Diff(s.want, got); diff != "" {
			t.Errorf("%s: lines (-want +got):\n%s", s.name, diff)
		}
	}
}

func TestARefusalThatIsLoggedIsShort(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	_, h := serving(t, ingress.Options{}, route(&inbox{}))
	r := httptest.NewRequest(http.MethodPost, eventPath, nil).WithContext(logging.WithLogger(context.Background(), zap.New(core).Sugar()))
	r.Header = binaryWith("ce-time: " + strings.Repeat("x", 10_000))
	h.ServeHTTP(httptest.NewRecorder(), r)
	all := logs.All()
	if len(all) != 1 {
		t.Fatalf("%d lines, want 1", len(all))
	}
	if says, _ := all[0].ContextMap()["error"].(string); says == "" || len(says) > 300 {
		t.Errorf("the line has %d bytes of what is wrong, want some, and at most 300", len(says))
	}
}
