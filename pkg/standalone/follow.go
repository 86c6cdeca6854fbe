package standalone

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// subscriptionsName is the file in a data directory that says which durable subscription is whose. Its names outlive edits of the targets
// that they were made from, so nobody else knows them.
const subscriptionsName = "subscriptions.json"

// subscriptions is that file: those of subscribers, those that are still to be removed from their buses, and those by which events are read
// where they come from.
type subscriptions struct {
	Subscribers []plan.Subscriber   `json:"subscribers"`
	Retired     []plan.Retired      `json:"retired,omitempty"`
	Consumers   []v1alpha1.Consumer `json:"consumers,omitempty"`
}

// follow returns p as the plan that follows the one that runs, or that ran last with this data directory: subscribers whose targets were
// edited go on with what waits for them. away is what of the subscriptions that are known nobody can go on with just now.
func (r *runner) follow(p *plan.Plan, waits []Problem) (next *plan.Plan, away subscriptions) {
	last := r.last
	if last == nil && r.before != nil { // its buses are taken to be those of p
		last = &plan.Plan{Buses: p.Buses, Subscribers: r.before.Subscribers, Retired: r.before.Retired}
	}
	if last != nil && r.DataDir == "" {
		last = temporary(last, p)
	}
	if last != nil {
		shallow := *last
		shallow.Subscribers = slices.Concat(last.Subscribers, r.away.Subscribers)
		shallow.Retired = slices.Concat(r.unremoved(last), r.away.Retired)
		shallow.Buses = slices.Clone(last.Buses)
		for _, b := range p.Buses {
			if !hasBus(last, b.Name) { // it may be where those lead that were away
				shallow.Buses = append(shallow.Buses, b)
			}
		}
		last = &shallow
	}
	next = plan.Succeed(last, p)
	if last != nil {
		away = awayOf(last, next, waits)
	}
	return next, away
}

// awayOf returns the subscriptions of last that nobody can go on with, or remove, yet, by the names and keys that next has for them: their
// subscribers wait, or their buses do.
func awayOf(last, next *plan.Plan, waits []Problem) (away subscriptions) {
	isAway := func(bus string) bool {
		return !hasBus(next, bus) && slices.ContainsFunc(waits, func(w Problem) bool { return w.Object == bus })
	}
	for _, s := range last.Subscribers {
		i := slices.IndexFunc(next.Waiting, func(w plan.Subscriber) bool { return w.ID == s.ID })
		waiting := i >= 0 && !hasSubscriber(next, s.ID)
		if !waiting && !isAway(s.Bus) {
			continue
		}
		if i >= 0 {
			w := next.Waiting[i]
			w.Bus = s.Bus
			if w.Inputs == nil { // they are not known just now
				w.Inputs = s.Inputs
			}
			s = w
		}
		away.Subscribers = append(away.Subscribers, s)
	}
	for _, s := range last.Retired {
		if isAway(s.Bus) {
			away.Retired = append(away.Retired, s)
		}
	}
	return away
}

// unremoved are the retired subscriptions of p that its buses still have, as far as is known.
func (r *runner) unremoved(p *plan.Plan) []plan.Retired {
	removed := r.gateway.Report().Retired
	return slices.DeleteFunc(slices.Clone(p.Retired), func(s plan.Retired) bool { return slices.Contains(removed, s.ID) })
}

// temporary returns p without the subscribers of brokers that outlive this process, unless they wait in next. Without a data directory the
// next process would not know the names of their subscriptions, so those have to be what follows from the files.
func temporary(p, next *plan.Plan) *plan.Plan {
	t := &plan.Plan{Buses: p.Buses, Sources: p.Sources}
	for _, s := range p.Subscribers {
		i := slices.IndexFunc(p.Buses, func(b plan.Bus) bool { return b.Name == s.Bus })
		waits := slices.ContainsFunc(next.Waiting, func(w plan.Subscriber) bool { return w.ID == s.ID })
		if waits || i >= 0 && p.Buses[i].Embedded != nil {
			t.Subscribers = append(t.Subscribers, s)
		}
	}
	return t
}

// inMemory tells whether what waits for c ends with this process.
func (r *runner) inMemory(c v1alpha1.Consumer) bool {
	return c.Kind != plan.KindKafka && slices.ContainsFunc(c.Servers, func(address string) bool {
		_, ours := r.servers.Address(address)
		return ours
	})
}

// recall reads what of the plan that ran last is in the data directory.
func (r *runner) recall() error {
	if r.DataDir == "" {
		return nil
	}
	path := filepath.Join(r.DataDir, subscriptionsName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var s subscriptions
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: restore it, or remove it; without it, subscribers whose targets were edited begin anew", path, err)
	}
	r.saved, r.before, r.consumers = data, &s, s.Consumers
	return nil
}

// goOn refuses to start what would leave events that wait for what ran last, and warns of what may.
func (r *runner) goOn(config *Config) error {
	errs, _, warnings := split(r.left(config))
	for _, w := range warnings {
		r.printf("%s", w)
	}
	if len(errs) == 0 {
		return nil
	}
	return &InvalidError{Problems: errs, Last: "hint: " + filepath.Join(r.DataDir, subscriptionsName) + " has who read the events until now"}
}

// left says what becomes of events that wait, where they come from, for whoever reads them now, or read them last: admission refuses the same.
func (r *runner) left(config *Config) (problems []Problem) {
	next := config.consumers()
	for _, c := range r.consumers {
		for _, p := range c.Left(next) {
			found := config.locate(plan.Problem{Kind: "EventSource", Namespace: c.Namespace, Name: c.EventSource, Path: p.Path, Message: p.Message})
			found.Warning = p.Warning
			problems = append(problems, found)
		}
	}
	return problems
}

// applied is called when p runs. What p has is remembered, and what the plan before had and nobody has any more is told.
func (r *runner) applied(p *plan.Plan, consumers []v1alpha1.Consumer) {
	removed := 0
	for _, s := range r.lost(p) {
		if removed++; removed <= shownParts {
			r.printf("removed, with what waited for it: %s to %s", s.Owner(), s.Targets())
		}
	}
	if more := removed - shownParts; more > 0 {
		r.printf("... and %d more", more)
	}
	r.last, r.consumers = p, consumers
	r.remember()
}

// lost are the subscribers of the plan before whose subscriptions are gone now that p runs. One whose bus leads to another broker is left
// behind there, unless that was in memory.
func (r *runner) lost(p *plan.Plan) (all []plan.Subscriber) {
	if r.last == nil {
		return nil
	}
	buses := func(p *plan.Plan) map[string]plan.Bus {
		m := map[string]plan.Bus{}
		for _, b := range p.Buses {
			m[b.Name] = b
		}
		return m
	}
	before, now := buses(r.last), buses(p)
	for _, s := range r.last.Subscribers {
		was := before[s.Bus]
		is, ok := now[s.Bus]
		same := ok && plan.SameBroker(was, is)
		inMemory := was.Embedded != nil && r.DataDir == ""
		goesOn := slices.ContainsFunc(p.Subscribers, func(o plan.Subscriber) bool { return o.ID == s.ID })
		if !same && inMemory || (same || !ok) && !goesOn {
			all = append(all, s)
		}
	}
	return all
}

// remember writes the file. At the end of the run it knows which retired subscriptions were removed.
func (r *runner) remember() {
	if r.DataDir == "" || r.last == nil {
		return
	}
	if err := r.save(r.last); err != nil {
		r.printf("which subscription is whose cannot be written: %v: make room or repair the disk; until then a restart may begin subscribers anew whose targets were edited", err)
	}
}

// save writes the file, without anything of the subscribers but what tells them apart.
func (r *runner) save(p *plan.Plan) error {
	s := subscriptions{Subscribers: []plan.Subscriber{}, Retired: slices.Concat(r.unremoved(p), r.away.Retired)}
	for _, o := range slices.Concat(p.Subscribers, r.away.Subscribers) {
		s.Subscribers = append(s.Subscribers, plan.Subscriber{
			ID: o.ID, Key: o.Key, Trigger: o.Trigger, EventSource: o.EventSource, Bus: o.Bus, Inputs: o.Inputs, Condition: o.Condition,
		})
	}
	for _, c := range r.consumers {
		if c.Keeps && !r.inMemory(c) {
			s.Consumers = append(s.Consumers, c)
		}
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil || bytes.Equal(data, r.saved) {
		return err
	}
	f, err := os.CreateTemp(r.DataDir, subscriptionsName+".")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing is there if it was renamed
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(r.DataDir, subscriptionsName))
	}
	if err == nil {
		r.saved = data
	}
	return err
}
