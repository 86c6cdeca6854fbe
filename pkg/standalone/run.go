// Package standalone runs declared objects in one process, without a cluster: files in, deliveries out.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sync/errgroup"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/gateway"
	jetstream "github.com/openfunction/events/pkg/gateway/bus/jetstream/embedded"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/standalone/embedded"
)

// Options say what to run and how.
type Options struct {
	// Paths are files, and directories of them.
	Paths []string
	// Listen is the ingress's address; port 0 means any.
	Listen string
	// Metrics is the address of /metrics; empty means that there are none.
	Metrics string
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

// Run runs what the files declare until ctx is done, or nobody reads Stdout any more, then drains and returns nil. It applies files that
// change. What lacks a Secret waits until the files have that, and all else runs. An error means that nothing was started, or that nothing
// runs any more; it is an *InvalidError when the files are why.
func Run(ctx context.Context, o Options) error {
	r := &runner{Options: o}
	config, p, problems := r.load(ctx)
	mistakes, waits, warnings := split(problems)
	for _, w := range warnings {
		r.printf("%s", w)
	}
	if len(mistakes) > 0 {
		return &InvalidError{Problems: append(mistakes, waits...), Last: r.hint(config)}
	}
	if len(config.Objects) == 0 {
		return fmt.Errorf("%s: %s", strings.Join(o.Paths, ", "), config.Nothing())
	}
	if len(waits) > 0 && len(p.Sources)+len(p.Subscribers) == 0 {
		return &InvalidError{Problems: waits, Last: "nothing to run: all that is declared waits for a Secret"}
	}
	if ignored := config.ignored(); ignored != "" {
		r.printf("ignored: %s", ignored)
	}
	r.sayDefaultBus(config)
	r.warnUnused(p)
	return r.run(ctx, config, p, waits)
}

// runner is one call of Run.
type runner struct {
	Options
	reader  reader
	servers *embedded.Servers
	real    map[string]bool // brokers that no embedded one stands for, by their first address
	gateway *gateway.Gateway

	last      *plan.Plan          // that runs
	consumers []v1alpha1.Consumer // of what runs, or ran last with this data directory
	before    *subscriptions      // those that the data directory had at the start, nil if none
	saved     []byte              // the file of subscriptions, as it is
	away      subscriptions       // of the file, those of what waits

	said map[string]bool          // see sayWaits
	idle atomic.Pointer[[]string] // see notRunning

	saidBus bool // see sayDefaultBus
}

func (r *runner) printf(format string, args ...any) {
	fmt.Fprintf(r.Stderr, format+"\n", args...)
}

// load reads the files as they are now.
func (r *runner) load(ctx context.Context) (*Config, *plan.Plan, []Problem) {
	config := r.reader.load(ctx, r.Paths)
	if r.Embedded {
		config.addDefaultBus()
	}
	p, problems := config.Compile(r.Sinks)
	return config, p, problems
}

// sayDefaultBus says once that a bus was added.
func (r *runner) sayDefaultBus(config *Config) {
	if config.addedBus && !r.saidBus {
		r.printf("embedded bus stands for EventBus default, which no file declares")
		r.saidBus = true
	}
}

// hint is what could help besides the changes that the problems ask for.
func (r *runner) hint(config *Config) string {
	if !r.Embedded && config.lacksDefaultBus() {
		return "hint: --embedded runs a bus named default in this process when no file declares one"
	}
	return ""
}

func (r *runner) run(ctx context.Context, config *Config, p *plan.Plan, waits []Problem) (err error) {
	release, err := claim(r.DataDir)
	if err != nil {
		return err
	}
	defer release()
	instance, err := instance(r.DataDir)
	if err != nil {
		return err
	}
	if err := r.recall(); err != nil {
		return err
	}
	if err := r.goOn(config); err != nil {
		return err
	}
	r.warnLeftBehind(p)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	shown, stopPrinting := r.display(ctx, cancel)
	defer func() { err = errors.Join(err, stopPrinting()) }()
	log := logging.FromContext(ctx)
	troubled := func(name string, err error) {
		if err == nil {
			log.Infow("the bus takes events again", "bus", name)
			return
		}
		if errors.Is(err, jetstream.ErrRemoved) {
			log.Errorw("the bus takes no events, and those that waited on it may be lost", "bus", name, "error", err)
			return
		}
		log.Errorw("the bus takes no events: make room on its disk or repair it, and it goes on by itself; nothing that it has is lost", "bus", name, "error", err)
	}
	damaged := func(name string, err error) {
		log.Errorw("the bus goes on without something that it had", "bus", name, "error", err)
	}
	r.servers = embedded.New(embedded.Options{Dir: r.DataDir, Dial: r.Addresses.dial, Troubled: troubled, Damaged: damaged})
	defer func() { err = errors.Join(err, r.servers.Close()) }()
	r.gateway, err = gateway.New(ctx, gateway.Options{
		Listen: r.Listen, Metrics: r.Metrics, Dial: r.Addresses.through(r.servers), DataDir: r.DataDir, Instance: instance,
		Display: shown, Observe: shown.observed, Gone: r.sayGone, Besides: r.besides,
		Embedded: func(name, dir string, sync time.Duration) (gateway.Server, error) {
			return jetstream.Start(jetstream.Options{
				Dir: dir, SyncInterval: sync, Recover: true, Troubled: func(err error) { troubled(name, err) }, Damaged: func(err error) { damaged(name, err) },
			})
		},
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: stop who has it, or choose another with --listen or --metrics; port 0 is any that is free", err)
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); ok && unknown.IsNotFound || errors.Is(err, syscall.EADDRNOTAVAIL) {
		return fmt.Errorf("%w: no address of this machine: 127.0.0.1 is for this machine alone, and 0.0.0.0 for all that reach it", err)
	}
	if err != nil {
		return err
	}
	if started, err := r.start(ctx, config, p, waits); !started {
		return err
	}
	running, ctx := errgroup.WithContext(ctx)
	ended := make(chan struct{})
	running.Go(func() error {
		defer close(ended)
		return r.gateway.Run(ctx)
	})
	running.Go(func() error {
		r.announce(ctx, p)
		return nil
	})
	running.Go(func() error {
		r.reader.watch(ctx, r.Paths, config.digest, func() { r.reload(ctx) })
		return nil
	})
	running.Go(func() error {
		r.drain(ctx, shown, ended)
		return nil
	})
	err = running.Wait()
	r.remember()
	return err
}

// sayGone says what is lost at the end because nothing keeps it.
func (r *runner) sayGone(events, letters uint64) {
	switch events {
	case 0:
	case 1:
		r.printf("1 event was still waiting and is gone: --data DIR keeps it")
	default:
		r.printf("%d events were still waiting and are gone: --data DIR keeps them", events)
	}
	if letters > 0 {
		r.printf("gone with the bus: %s: --data DIR keeps them", count(int(letters), "dead letter"))
	}
}

// start starts the servers and applies the plan. When it has not started, the gateway is over, without an error if that was asked for.
func (r *runner) start(ctx context.Context, config *Config, p *plan.Plan, waits []Problem) (started bool, err error) {
	err = r.apply(ctx, config, p, waits)
	if err == nil {
		return true, nil
	}
	if ctx.Err() != nil {
		err = nil // the end was asked for meanwhile
	}
	stopped, stop := context.WithCancel(ctx)
	stop()
	return false, errors.Join(err, r.gateway.Run(stopped))
}

// apply starts the servers that p, the plan of config, needs and runs it in place of the plan before. What waits of it goes on if it runs
// already.
func (r *runner) apply(ctx context.Context, config *Config, p *plan.Plan, waits []Problem) error {
	if err := r.stand(ctx, p); err != nil {
		return err
	}
	next, away := r.follow(p, waits)
	if err := r.gateway.Apply(next); err != nil {
		return err
	}
	r.away = away
	r.applied(next, config.consumers())
	r.sayWaits(ctx, next, waits)
	return nil
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
	if err != nil {
		return err
	}
	for _, n := range needs {
		if _, ok := r.servers.Address(n.Addresses[0]); ok || r.real[n.Addresses[0]] {
			continue
		}
		if r.real == nil {
			r.real = map[string]bool{}
		}
		r.real[n.Addresses[0]] = true
		why := "answers"
		if n.Elsewhere {
			why = "is reached by TLS, a websocket or tokens"
		}
		r.printf("%s at %s %s: no embedded one stands for it", n.Kind, strings.Join(n.Addresses, ", "), why)
	}
	return nil
}

// reload applies the files as they are now. When they cannot work, or their servers do not start, the state before goes on.
func (r *runner) reload(ctx context.Context) {
	config, p, problems := r.load(ctx)
	if mistakes, _, _ := split(problems); len(mistakes) == 0 && len(config.Objects) > 0 {
		problems = append(problems, r.left(config)...)
		config.sort(problems)
	}
	mistakes, waits, _ := split(problems)
	for _, problem := range problems {
		if len(mistakes) > 0 || !problem.Waits {
			r.printf("%s", problem)
		}
	}
	if len(mistakes) > 0 {
		r.printf("not applied, the state before goes on; mistakes: %d", len(mistakes))
		return
	}
	// An editor or a copy that is not done yet leaves such a file for a moment; applied, it would take the subscriptions away.
	if len(config.Objects) == 0 {
		r.printf("not applied, the state before goes on: %s", config.Nothing())
		return
	}
	r.sayDefaultBus(config)
	err := r.apply(ctx, config, p, waits)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		r.printf("not applied, the state before goes on: %v", err)
	default:
		r.warnLeftBehind(p)
		r.printf("applied: %s, %s", count(len(r.last.Sources), "source"), count(len(r.last.Subscribers), "subscriber"))
		r.sayIdle()
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// warnUnused tells about options that change nothing, which are mostly typing mistakes. Nobody knows while something waits.
func (r *runner) warnUnused(p *plan.Plan) {
	if p.Waits() {
		return
	}
	for _, name := range r.Sinks.Unused() {
		r.printf("warning: --sink %s: no object refers to it%s", name, r.Sinks.others())
	}
	for _, a := range r.Addresses.unused(named(p)) {
		r.printf("warning: --address %s: no object names it; it counts for addresses that brokers advertise all the same", a)
	}
}

// warnLeftBehind tells about the directories of embedded buses that do not run, unless it may be that all who use them wait.
func (r *runner) warnLeftBehind(p *plan.Plan) {
	if r.DataDir == "" || p.Waits() {
		return
	}
	runs := map[string]bool{}
	for _, b := range p.Buses {
		runs[gateway.BusDir(r.DataDir, b.Name)] = b.Embedded != nil
	}
	found, err := os.ReadDir(filepath.Join(r.DataDir, "bus"))
	if err != nil {
		return // who needs it says so
	}
	for _, f := range found {
		dir := filepath.Join(r.DataDir, "bus", f.Name())
		if f.IsDir() && !strings.HasPrefix(f.Name(), ".") && !runs[dir] {
			r.printf("warning: %s: has the events of an embedded bus that no file declares, or nobody uses: give the bus its name back, or delete the directory", dir)
		}
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
