// Package standalone runs declared objects in one process, without a cluster: files in, deliveries out.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sync/errgroup"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/standalone/embedded"
)

// readyWithin is how long Run waits for brokers before it says that it listens.
const readyWithin = 10 * time.Second

// Options say what to run and how.
type Options struct {
	// Paths are files, and directories of them.
	Paths []string
	// Listen is the ingress's address; port 0 means any.
	Listen string
	// Sinks say where references lead.
	Sinks *Sinks
	// Addresses say where to connect instead of an address.
	Addresses *Addresses
	// Embedded starts in-process brokers for the addresses that nothing serves.
	Embedded bool
	// DataDir is where embedded buses and brokers keep their events; empty means in memory.
	DataDir string
	// JSON prints deliveries as one JSON object per line, not for the eye.
	JSON bool
	// Stdout gets the deliveries and Stderr all else.
	Stdout, Stderr io.Writer
}

// Run runs what the files declare until ctx is done, then drains and returns nil. It applies files that change. An error means that
// nothing was started, or that nothing runs any more; it is an *InvalidError when the files are why.
func Run(ctx context.Context, o Options) error {
	config := Load(ctx, o.Paths)
	p, problems := config.Compile(o.Sinks)
	errs, warnings := split(problems)
	r := &runner{Options: o}
	for _, w := range warnings {
		r.printf("%s", w)
	}
	if len(errs) > 0 {
		return &InvalidError{errs}
	}
	if len(config.Objects) == 0 {
		return fmt.Errorf("%s: no EventSource, EventBus, ClusterEventBus or Trigger there", strings.Join(o.Paths, ", "))
	}
	r.note(config)
	r.warnUnused(p)
	return r.run(ctx, config, p)
}

// runner is one call of Run.
type runner struct {
	Options
	servers *embedded.Servers
	gateway *gateway.Gateway
}

func (r *runner) printf(format string, args ...any) {
	fmt.Fprintf(r.Stderr, format+"\n", args...)
}

func (r *runner) run(ctx context.Context, config *Config, p *plan.Plan) (err error) {
	instance, err := instance(r.DataDir)
	if err != nil {
		return err
	}
	r.servers = embedded.New(embedded.Options{Dir: r.DataDir, Dial: r.Addresses.dial})
	defer func() { err = errors.Join(err, r.servers.Close()) }()
	if err := r.stand(ctx, p); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	shown := &display{json: r.JSON, now: time.Now, out: r.Stdout}
	r.gateway, err = gateway.New(ctx, gateway.Options{
		Listen: r.Listen, Dial: r.Addresses.through(r.servers), DataDir: r.DataDir, Instance: instance,
		Display: shown, Observe: shown.observed,
	})
	if err != nil {
		return err
	}
	running, ctx := errgroup.WithContext(ctx)
	if err := r.gateway.Apply(p); err != nil {
		stopped, stop := context.WithCancel(ctx)
		stop()
		return errors.Join(err, r.gateway.Run(stopped))
	}
	running.Go(func() error { return r.gateway.Run(ctx) })
	running.Go(func() error {
		r.announce(ctx, p)
		watch(ctx, r.Paths, config.digest, func() { r.reload(ctx) })
		return nil
	})
	return running.Wait()
}

// stand starts the embedded servers that p needs, if they are wanted, and says so.
func (r *runner) stand(ctx context.Context, p *plan.Plan) error {
	if !r.Embedded {
		return nil
	}
	needs, err := embedded.Needs(p)
	if err != nil {
		return err
	}
	started, err := r.servers.Add(ctx, needs)
	for _, s := range started {
		r.printf("%s", s)
	}
	return err
}

// announce says where the ingress listens, once everything is ready or has had its time.
func (r *runner) announce(ctx context.Context, p *plan.Plan) {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(readyWithin)
	err := r.gateway.Ready()
	for late := false; err != nil && !late; err = r.gateway.Ready() {
		select {
		case <-ctx.Done():
			return
		case <-deadline:
			late = true
		case <-poll.C:
		}
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			r.printf("not ready yet: %s", line)
		}
	}
	r.printf("listening on http://%s", r.gateway.Addr())
	for _, line := range tries(p, r.gateway.Addr()) {
		r.printf("try: %s", line)
	}
}

// tries are commands that send an event to each HTTP event.
func tries(p *plan.Plan, addr string) []string {
	var lines []string
	for _, s := range p.Sources {
		if s.HTTP == nil {
			continue
		}
		attributes := ""
		if !s.HTTP.Raw {
			attributes = "-H 'ce-specversion: 1.0' -H 'ce-id: 1' -H 'ce-source: /curl' -H 'ce-type: test' "
		}
		lines = append(lines, fmt.Sprintf(`curl -d '{"hello":"world"}' -H 'content-type: application/json' %shttp://%s/%s/%s/%s`,
			attributes, addr, s.Namespace, s.EventSource, s.Event))
	}
	return lines
}

// reload applies the files as they are now. When they cannot work, or their servers do not start, the state before goes on.
func (r *runner) reload(ctx context.Context) {
	log := logging.FromContext(ctx)
	config := Load(ctx, r.Paths)
	p, problems := config.Compile(r.Sinks)
	errs, _ := split(problems)
	for _, problem := range problems {
		r.printf("%s", problem)
	}
	if len(errs) > 0 {
		r.printf("not applied, the state before goes on; mistakes: %d", len(errs))
		return
	}
	if err := r.stand(ctx, p); err != nil {
		log.Errorw("reload: embedded server not started, the state before goes on", "error", err)
		return
	}
	if err := r.gateway.Apply(p); err != nil {
		log.Errorw("reload: plan not applied", "error", err)
		return
	}
	r.printf("applied: %d sources, %d subscribers", len(p.Sources), len(p.Subscribers))
}

func (r *runner) note(c *Config) {
	var parts []string
	for _, kind := range sortedKeys(c.Ignored) {
		parts = append(parts, fmt.Sprintf("%d %s", c.Ignored[kind], kind))
	}
	if len(parts) > 0 {
		r.printf("ignored: %s", strings.Join(parts, ", "))
	}
}

// warnUnused tells about options that change nothing, which are mostly typing mistakes.
func (r *runner) warnUnused(p *plan.Plan) {
	for _, name := range r.Sinks.Unused() {
		r.printf("warning: --sink %s: no object refers to it", name)
	}
	for _, a := range r.Addresses.unused(named(p)) {
		r.printf("warning: --address %s: no object names it; it counts for addresses that brokers advertise all the same", a)
	}
}

// instance tells this process apart from others that run the same objects. Who owns a data directory is who owned it before.
// It has letters, digits and hyphens only, since brokers take it for a client's name.
func instance(dataDir string) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name of this machine: %w", err)
	}
	host = strings.Map(func(r rune) rune {
		if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '-'
	}, host)
	if dataDir == "" {
		return fmt.Sprintf("%s-%d", host, os.Getpid()), nil
	}
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return "", fmt.Errorf("data directory %s: %w", dataDir, err)
	}
	h := fnv.New64a()
	_, _ = io.WriteString(h, dir)
	return fmt.Sprintf("%s-%x", host, h.Sum64()), nil
}
