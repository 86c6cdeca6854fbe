package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/flood"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
)

// poll is how often the mounted Secret and the server's health are looked at.
const poll = time.Second

// run runs the server until ctx is done and it has handed over.
func run(ctx context.Context, e env) error {
	log, flush, err := newLogger(e.LogLevel)
	if err != nil {
		return err
	}
	defer flush()
	access, err := readAccess(e.AccessDir)
	if err != nil {
		return err
	}
	o, err := e.options()
	if err != nil {
		return err
	}
	o.Access, o.Log = &access, log
	o.Troubled = func(err error) {
		if err == nil {
			log.Infow("bus takes events again")
			return
		}
		log.Errorw("bus takes no events", "error", err, "cure", "make room on its volume, or repair it")
	}
	o.Damaged = func(err error) { log.Errorw("bus goes on without something that it had", "error", err) }
	admin, err := net.Listen("tcp", e.AdminListen)
	if err != nil {
		return fmt.Errorf("probes: %w", err)
	}
	p := &probes{}
	answers := &http.Server{Handler: p.handler(), ReadHeaderTimeout: 10 * time.Second}
	answered := make(chan error, 1)
	go func() { answered <- answers.Serve(admin) }()
	defer func() {
		_ = answers.Close()
		<-answered
	}()
	// To read what a volume has may take long; meanwhile the server is alive, but not ready.
	server, err := embedded.Start(o)
	if err != nil {
		return err
	}
	p.server.Store(server)
	log.Infow("bus runs", "server", e.PodName, "clients", server.ClientURL(), "probes", admin.Addr(), "members", e.Members)
	follow(ctx, log, server, e.AccessDir, access)
	server.Drain()
	log.Infow("bus has drained")
	return nil
}

// follow gives the server what the Secret says, and tells when its health changes, until ctx is done.
func follow(ctx context.Context, log *zap.SugaredLogger, server *embedded.Server, dir string, access embedded.Access) {
	health := errors.New("starting")
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	var unread string
	for {
		now := server.Ready()
		switch {
		case now == nil && health != nil:
			log.Infow("bus is ready")
		case now != nil && health == nil:
			log.Warnw("bus is not ready", "error", now)
		}
		health = now
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		next, err := readAccess(dir)
		if err == nil && next != access {
			if err = server.SetAccess(next); err == nil {
				access = next
				log.Infow("the Secret has changed and is applied")
			}
		}
		if err != nil && err.Error() != unread {
			log.Errorw("the Secret is not applied, the one before goes on", "error", err)
		}
		unread = message(err)
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// options are those of the server, but for who is let in.
func (e env) options() (embedded.Options, error) {
	host, port, err := address("LISTEN", e.Listen)
	if err != nil {
		return embedded.Options{}, err
	}
	o := embedded.Options{Dir: e.DataDir, SyncInterval: e.SyncInterval, MaxBytes: e.MaxBytes, Host: host, Port: port, Name: e.PodName}
	if e.Cluster == "" {
		return o, nil
	}
	if host, port, err = address("CLUSTER_LISTEN", e.ClusterListen); err != nil {
		return embedded.Options{}, err
	}
	o.Cluster = &embedded.Cluster{Name: e.Cluster, Host: host, Port: port, Members: e.Members}
	return o, nil
}

// address splits host:port. Without a host it is every address of the pod.
func address(name, value string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(value)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil {
		return "", 0, fmt.Errorf("%s %q: want host:port: %w", name, value, err)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, port, nil
}

// newLogger writes JSON to stderr as all programs of the cluster do, and of a flood the beginning and the extent.
func newLogger(level string) (log *zap.SugaredLogger, flush func(), err error) {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, nil, fmt.Errorf("LOG_LEVEL %q: want debug, info, warn or error", level)
	}
	flush = func() {}
	log, _ = logging.NewLogger("", l.String(), zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		if l != zapcore.DebugLevel {
			core, flush = flood.Limit(core)
		}
		return core
	}))
	return log.Named("bus"), flush, nil
}
