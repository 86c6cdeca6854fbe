package standalone

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/standalone/embedded"
)

const (
	// readyWithin is how long Run waits for brokers before it says that it listens.
	readyWithin = 10 * time.Second
	// drainSilently is how long a drain may take before Run says that it drains.
	drainSilently = time.Second
	// unreadAtEnd is how long, once the end was asked for, the reader of the deliveries may read nothing.
	unreadAtEnd = 3 * time.Second
	// shownTries and shownParts bound lists on stderr.
	shownTries = 3
	shownParts = 10
)

// announce says where the ingress listens, once everything is ready or has had its time. In the latter case it also says what is not
// ready, and when that has come.
func (r *runner) announce(ctx context.Context, p *plan.Plan) {
	err := r.awaitReady(ctx, readyWithin)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		for _, line := range notReady(err) {
			r.printf("not ready yet: %s", line)
		}
		// What Needs cannot read, the gateway reports.
		if needs, _ := embedded.Needs(p); len(needs) > 0 && !r.Embedded {
			r.printf("hint: --embedded starts in-process brokers for addresses that nothing serves")
		}
	}
	r.printf("listening on http://%s", r.gateway.Addr())
	r.sayIdle()
	if r.Metrics != "" {
		r.printf("metrics on http://%s/metrics", r.gateway.MetricsAddr())
	}
	lines := tries(p, r.gateway.Addr())
	for _, line := range lines[:min(shownTries, len(lines))] {
		r.printf("try: %s", line)
	}
	if more := len(lines) - shownTries; more > 0 {
		r.printf("... and %d more", more)
	}
	switch {
	case err == nil || r.awaitReady(ctx, 0) != nil:
	case len(r.notRunning()) > 0:
		r.printf("ready, but for what does not run")
	default:
		r.printf("ready")
	}
}

// awaitReady returns nil as soon as everything is ready, and otherwise what is not when ctx is done or after some time, if that is not
// zero.
func (r *runner) awaitReady(ctx context.Context, within time.Duration) error {
	every, late := 250*time.Millisecond, (<-chan time.Time)(nil)
	if within > 0 {
		every, late = 20*time.Millisecond, time.After(within)
	}
	poll := time.NewTicker(every)
	defer poll.Stop()
	for {
		err := r.gateway.Ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-late:
			return err
		case <-poll.C:
		}
	}
}

// notReady lists what is not ready in a few lines: parts that only wait for others are counted, and no name is said twice.
func notReady(err error) []string {
	var lines []string
	starting, more := 0, 0
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if strings.HasSuffix(line, ": starting") {
			starting++
			continue
		}
		if name, rest, ok := strings.Cut(line, ": "); ok && strings.HasPrefix(rest, name) {
			line = rest
		}
		if len(lines) == shownParts {
			more++
			continue
		}
		lines = append(lines, line)
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("... and %d more", more))
	}
	if starting > 0 {
		lines = append(lines, count(starting, "part")+" starting")
	}
	return lines
}

// tries are commands that send an event to each HTTP event.
func tries(p *plan.Plan, addr string) []string {
	var lines []string
	if a, err := netip.ParseAddrPort(addr); err == nil && a.Addr().IsUnspecified() {
		addr = fmt.Sprintf("127.0.0.1:%d", a.Port())
	}
	for _, s := range p.Sources {
		if s.HTTP == nil {
			continue
		}
		shown, note := credentials(s.HTTP.Auth)
		attributes := ""
		if !s.HTTP.Raw {
			attributes = "-H 'ce-specversion: 1.0' -H 'ce-id: 1' -H 'ce-source: /curl' -H 'ce-type: test' "
		}
		lines = append(lines, fmt.Sprintf(`curl -d '{"hello":"world"}' -H 'content-type: application/json' %s%shttp://%s/%s/%s/%s%s`,
			attributes, shown, addr, s.Namespace, s.EventSource, s.Event, note))
	}
	return lines
}

// credentials are the options of curl, and a comment after them, for an event that not everybody may post. They hold nothing secret.
func credentials(a *plan.HTTPAuth) (options, comment string) {
	switch {
	case a == nil:
		return "", ""
	case a.Basic != nil:
		return "-u USER ", ""
	case a.HMAC != nil:
		header := map[string]string{"github": "X-Hub-Signature-256", "stripe": "Stripe-Signature"}[a.HMAC.Scheme]
		return "", fmt.Sprintf(" # answers 401 until it is signed, in the header %s", header)
	}
	return `-H "Authorization: Bearer $TOKEN" `, ""
}

// display prints deliveries until the function that it returns is called, which waits for that unless nobody reads, and returns why they
// could not be printed. Then, or when the reader has gone away, display calls end: what goes on would be delivered to nobody.
func (r *runner) display(ctx context.Context, end func()) (shown *display, stop func() error) {
	shown = newDisplay(r.Stdout, r.JSON)
	var unprinted error
	shown.failed = func(err error) {
		if !errors.Is(err, syscall.EPIPE) { // whoever read, such as head, has seen enough
			unprinted = fmt.Errorf("deliveries cannot be printed: %w", err)
		}
		shown.giveUp()
		end()
	}
	printing, stopPrinting := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		shown.run(printing)
	}()
	return shown, func() error {
		stopPrinting()
		if shown.blocked(0) {
			return nil // a write that nobody reads ends with the process only
		}
		<-done
		return unprinted
	}
}

// drain watches over the end, from when ctx is done until ended is closed: it says so if that takes a while, and does not let it wait
// for a reader that does not read.
func (r *runner) drain(ctx context.Context, shown *display, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	slow := time.After(drainSilently)
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-ended:
			return
		case <-slow:
			r.printf("draining: deliveries under way are waited for, and buses are closed; a second signal ends at once")
		case <-poll.C:
			if shown.blocked(unreadAtEnd) && shown.giveUp() {
				r.printf("nobody reads stdout: what is not printed yet stays where it is")
			}
		}
	}
}
