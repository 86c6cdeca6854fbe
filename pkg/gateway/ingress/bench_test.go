package ingress_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/gateway/ingress"
)

// discard is the least that a ResponseWriter can be.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// body reads from bytes without allocating.
type body struct{ *bytes.Reader }

func (body) Close() error { return nil }

func benchmark(b *testing.B, header http.Header, payload string) {
	_, h := serving(b, ingress.Options{}, route(event.HandlerFunc(func(context.Context, *event.Event) error { return nil })))
	r, err := http.NewRequest("POST", eventPath, strings.NewReader(payload))
	if err != nil {
		b.Fatal(err)
	}
	r.Header = header
	reader := bytes.NewReader([]byte(payload))
	r.Body = body{reader}
	w := discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = reader.Seek(0, io.SeekStart)
		h.ServeHTTP(w, r)
	}
}

func BenchmarkBinary(b *testing.B) {
	benchmark(b, binaryWith("ce-time: 2026-01-02T03:04:05Z", "Content-Type: application/json"), strings.Repeat("a", 1000))
}

func BenchmarkStructured(b *testing.B) {
	benchmark(b, headers(ceJSON), structured(`,"datacontenttype":"text/plain","data":"`+strings.Repeat("a", 800)+`"`))
}
