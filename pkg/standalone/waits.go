package standalone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/plan"
)

const (
	waitsForSecret = "an object does not start: it waits for a Secret, and starts as soon as the files have that"
	lostSecret     = "an object has lost a Secret: it goes on as it was, and could not start again without it"
)

// sayWaits says of each object whose Secrets the files do not have that it waits, or that it goes on with what it had, unless that was said
// already. next is what runs.
func (r *runner) sayWaits(ctx context.Context, next *plan.Plan, waits []Problem) {
	said := map[string]bool{}
	for rest := waits; len(rest) > 0; {
		first := rest[0]
		runs := goesOn(next, first)
		same := func(w Problem) bool { return w.Object == first.Object && goesOn(next, w) == runs }
		var lines []string
		for _, w := range rest {
			if same(w) {
				lines = append(lines, w.Path+": "+w.Message)
			}
		}
		rest = slices.DeleteFunc(slices.Clone(rest), same)
		message := waitsForSecret
		if runs {
			message = lostSecret
		}
		text := strings.Join(lines, "; ")
		key := message + first.Object + text
		if said[key] = true; !r.said[key] {
			logging.FromContext(ctx).Errorw(message, "object", first.Object, "at", fmt.Sprintf("%s:%d", first.File, first.Line), "error", text)
		}
	}
	r.said = said
	names := idle(next, waits)
	r.idle.Store(&names)
}

// besides says what does not run, for /readyz.
func (r *runner) besides() error {
	var errs []error
	for _, name := range r.notRunning() {
		errs = append(errs, fmt.Errorf("%s: does not run, for want of a Secret", name))
	}
	return errors.Join(errs...)
}

// notRunning are the names of what waits for a Secret just now.
func (r *runner) notRunning() []string {
	if names := r.idle.Load(); names != nil {
		return *names
	}
	return nil
}

// sayIdle says what does not run, if there is something.
func (r *runner) sayIdle() {
	names := r.notRunning()
	if len(names) == 0 {
		return
	}
	list := strings.Join(names[:min(shownParts, len(names))], ", ")
	if more := len(names) - shownParts; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	r.printf("not running, for want of a Secret: %s", list)
}

// goesOn tells whether what w is about, a bus, an event or the sink of an EventSource, or a Trigger, runs all the same.
func goesOn(next *plan.Plan, w Problem) bool {
	switch {
	case strings.HasPrefix(w.Path, "spec.sink."), strings.HasPrefix(w.Path, "spec.deadLetterSink."):
		return slices.ContainsFunc(next.Subscribers, func(s plan.Subscriber) bool { return s.Owner() == w.Object }) ||
			slices.ContainsFunc(next.Sources, func(s plan.Source) bool { return s.Owner() == w.Object && s.Sink != nil })
	case strings.HasPrefix(w.Path, "spec.subscribers["): // of several it is told as long as one waits
		return !slices.ContainsFunc(next.Waiting, func(s plan.Subscriber) bool { return s.Owner() == w.Object && !hasSubscriber(next, s.ID) })
	}
	return hasBus(next, w.Object) || slices.ContainsFunc(next.Sources, func(s plan.Source) bool {
		return s.Owner() == w.Object && strings.HasPrefix(w.Path, fmt.Sprintf("spec.%s[%s].", s.Kind, s.Event))
	})
}

func hasBus(p *plan.Plan, name string) bool {
	return slices.ContainsFunc(p.Buses, func(b plan.Bus) bool { return b.Name == name })
}

func hasSubscriber(p *plan.Plan, id string) bool {
	return slices.ContainsFunc(p.Subscribers, func(s plan.Subscriber) bool { return s.ID == id })
}

// idle names what does not run of what is declared, for want of a Secret.
func idle(next *plan.Plan, waits []Problem) []string {
	var names []string
	for _, w := range waits {
		part := strings.HasPrefix(w.Object, "EventSource ") || strings.HasPrefix(w.Object, "Trigger ") // of which some waits
		if !part && !hasBus(next, w.Object) {
			names = append(names, w.Object)
		}
	}
	for _, s := range next.WaitingSources {
		names = append(names, fmt.Sprintf("%s %s event %s", s.Owner(), s.Kind, s.Event))
	}
	for _, s := range next.Waiting {
		publishes := func(o plan.Source) bool { return o.Owner() == s.Owner() && o.Bus != "" }
		switch {
		case hasSubscriber(next, s.ID): // what it was before its edit
		case s.Trigger != "":
			names = append(names, s.Owner())
		case slices.ContainsFunc(next.Sources, publishes):
			names = append(names, s.Owner()+" sink")
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
