package workload

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"maps"
	"slices"
	"sort"

	corev1 "k8s.io/api/core/v1"

	"github.com/openfunction/events/pkg/plan"
)

// fit returns the plan that follows last, as much of it as a Secret can hold: of the objects, and buses, that have grown, those stay as they
// are in last that have grown most, which are left. It is nil if that does not help.
func (s succession) fit(last *plan.Plan) (p *plan.Plan, left []string) {
	p = s.follow(last)
	if fits(p) {
		return p, nil
	}
	if p = s.terse(last); fits(p) {
		return p, nil
	}
	before := last
	if before == nil {
		before = &plan.Plan{}
	}
	grown := grown(before, s.next)
	n := sort.Search(len(grown), func(n int) bool {
		next, _ := without(before, s.next, grown[:n+1])
		return fits(succession{next: next, removed: s.removed}.terse(last))
	})
	if n == len(grown) {
		return nil, grown
	}
	next, left := without(before, s.next, grown[:n+1])
	return succession{next: next, removed: s.removed}.terse(last), left
}

// terse is follow without a word of what waits: whoever posts that is told that there is no such event, rather than that anything stays as it was.
func (s succession) terse(last *plan.Plan) *plan.Plan {
	p := s.follow(last)
	p.WaitingSources = nil
	return p
}

func fits(p *plan.Plan) bool {
	data, err := plan.Encode(p)
	return err == nil && len(data) <= corev1.MaxSecretSize
}

// without returns next without what has changed since last of the objects and buses of these names, and the names of all that this concerns:
// nothing can begin on a bus that is not there.
func without(last, next *plan.Plan, names []string) (*plan.Plan, []string) {
	left := map[string]bool{}
	for _, name := range names {
		left[name] = true
	}
	var buses []plan.Bus
	absent := map[string]bool{}
	for _, b := range next.Buses {
		i := slices.IndexFunc(last.Buses, func(o plan.Bus) bool { return o.Name == b.Name })
		switch {
		case !left[b.Name]:
			buses = append(buses, b)
		case i >= 0:
			buses = append(buses, last.Buses[i])
		default:
			absent[b.Name] = true
		}
	}
	for i := range next.Sources {
		if s := &next.Sources[i]; absent[s.Bus] {
			left[s.Owner()] = true
		}
	}
	for i := range next.Subscribers {
		if s := &next.Subscribers[i]; absent[s.Bus] {
			left[s.Owner()] = true
		}
	}
	p := plan.Postpone(next, func(owner string) bool { return left[owner] })
	p.Buses = buses
	return p, slices.Sorted(maps.Keys(left))
}

// grown returns the names of the objects and buses that take more in next than in last, those that have grown most first.
func grown(last, next *plan.Plan) []string {
	before, after := sizes(last), sizes(next)
	var names []string
	for name, size := range after {
		if size > before[name] {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(after[b]-before[b], after[a]-before[a]), cmp.Compare(a, b))
	})
	return names
}

// sizes tells by name how many bytes each object and bus of p takes by itself.
func sizes(p *plan.Plan) map[string]int {
	parts := map[string]*bytes.Buffer{}
	add := func(name string, part any) {
		if parts[name] == nil {
			parts[name] = &bytes.Buffer{}
		}
		_ = json.NewEncoder(parts[name]).Encode(part) // no type of a plan can fail
	}
	for _, b := range p.Buses {
		add(b.Name, b)
	}
	for i := range p.Sources {
		add(p.Sources[i].Owner(), p.Sources[i])
	}
	for i := range p.Subscribers {
		add(p.Subscribers[i].Owner(), p.Subscribers[i])
	}
	all := make(map[string]int, len(parts))
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for name, part := range parts {
		b.Reset()
		z.Reset(&b)
		_, _ = z.Write(part.Bytes()) // a buffer takes everything
		_ = z.Close()
		all[name] = b.Len()
	}
	return all
}
