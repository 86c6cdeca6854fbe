package ingress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
	"knative.dev/pkg/logging"
)

// Serve serves h on ln until ctx is done; then it takes no more connections and waits at most grace for requests that are inside.
// Those still there after that are cut off, and the error says so; handlers may then still run, see Ingress.Close. It closes ln.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, grace time.Duration) error {
	return serve(ctx, ln, newServer(ctx, h), grace)
}

func newServer(ctx context.Context, h http.Handler) *http.Server {
	// Requests get what ctx knows, its logger above all, but do not end with it: that is what grace is for.
	base := context.WithoutCancel(ctx)
	errorLog, _ := zap.NewStdLogAt(logging.FromContext(ctx).Desugar(), zap.WarnLevel) // the level is a known one
	return &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          errorLog,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       60 * time.Second,
		// It counts from the first byte of the request and so must be longer than any delivery that a caller waits for.
		WriteTimeout:   time.Hour,
		IdleTimeout:    120 * time.Second,
		MaxHeaderBytes: 64 << 10,
	}
}

func serve(ctx context.Context, ln net.Listener, server *http.Server, grace time.Duration) error {
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := server.Shutdown(bounded)
	if err != nil {
		_ = server.Close() // cutting connections off has no better answer to an error
	}
	<-served
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop serving %s: requests were still inside after %s", ln.Addr(), grace)
	}
	if err != nil {
		return fmt.Errorf("stop serving %s: %w", ln.Addr(), err)
	}
	return nil
}
