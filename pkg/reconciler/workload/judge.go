package workload

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/openfunction/events/pkg/plan"
)

// judge says how far the pods of w are with p.
func (c *Clients) judge(ctx context.Context, w Workload, d *appsv1.Deployment, p *plan.Plan) (State, error) {
	pods, err := c.pods(w.namespace(), w.selector())
	if err != nil {
		return State{}, err
	}
	hashes, owners := p.Hashes(), map[string]string{}
	for i := range p.Sources {
		owners[p.Sources[i].Owner()] = hashes[p.Sources[i].Owner()]
	}
	for i := range p.Subscribers {
		owners[p.Subscribers[i].Owner()] = hashes[p.Subscribers[i].Owner()]
	}
	s := c.state(ctx, pods, owners, func(why string) State {
		return State{Reason: ReasonStarting, Message: cmp.Or(why, notStarted(d))}
	})
	s.Bus = c.busState(ctx, pods, w.Plan)
	return s, nil
}

// busState is what the ready ones of pods say of the buses of p. Where none is ready, a bus that is away may be the reason, so all say it.
func (c *Clients) busState(ctx context.Context, pods []*corev1.Pod, p *plan.Plan) BusState {
	if ready := readyOnes(pods); len(ready) > 0 {
		pods = ready
	}
	hashes := p.Hashes()
	s := BusState{Seen: len(pods) > 0 && len(p.Buses) > 0}
	for _, a := range c.ask(ctx, pods) {
		if a.err != nil {
			return BusState{}
		}
		for _, b := range p.Buses {
			got := a.report.Objects[b.Name]
			if got.Hash != hashes[b.Name] || slices.ContainsFunc(got.Problems, isStarting) {
				return BusState{}
			}
			if len(got.Problems) > 0 {
				s.Problem = cmp.Or(s.Problem, got.Problems[0])
			}
			s.Losing = cmp.Or(s.Losing, got.Losing)
			if len(got.Failing) > 0 {
				s.Full = cmp.Or(s.Full, got.Failing[0])
			}
		}
	}
	return s
}

func isStarting(problem string) bool { return strings.HasSuffix(problem, plan.Starting) }

// pods returns those that are not on their way out, by name.
func (c *Clients) pods(namespace string, selector map[string]string) ([]*corev1.Pod, error) {
	all, err := c.Indexers["pods"].ByIndex(byWorkload, namespace+"/"+selector[labelWorkload])
	if err != nil {
		return nil, err
	}
	selects := labels.SelectorFromSet(selector)
	var pods []*corev1.Pod
	for _, o := range all {
		p := o.(*corev1.Pod)
		if p.DeletionTimestamp == nil && !ended(p) && selects.Matches(labels.Set(p.Labels)) {
			pods = append(pods, p)
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return pods, nil
}

// ended tells whether nothing of p runs any more.
func ended(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// state is the first that is not good of those of the ready pods. When none is ready it is that of another one which runs and knows what
// it waits for, or else what notReady makes of why it does not.
func (c *Clients) state(ctx context.Context, pods []*corev1.Pod, hashes map[string]string, notReady func(why string) State) State {
	if ready := readyOnes(pods); len(ready) > 0 {
		good := State{Ready: true}
		for i, a := range c.ask(ctx, ready) {
			if a.err != nil {
				return State{Reason: ReasonNoReport, Message: fmt.Sprintf("pod %s does not tell the controller what it runs: %v", ready[i].Name, a.err)}
			}
			s := verdict(a.report, hashes)
			if !s.Ready {
				return s
			}
			good.Late, good.Failing = good.Late || a.late(), cmp.Or(good.Failing, s.Failing)
			good.Losing = cmp.Or(good.Losing, s.Losing)
		}
		return good
	}
	why := ""
	for i, a := range c.ask(ctx, pods) {
		if a.err == nil && !a.late() {
			if s := verdict(a.report, hashes); !s.Ready && s.Reason != ReasonApplying {
				return s
			}
		}
		why = cmp.Or(why, NotRunning(pods[i]))
	}
	if why == "" && len(pods) > 0 {
		why = fmt.Sprintf("pod %s is not ready yet", pods[0].Name)
	}
	return notReady(why)
}

// ask returns the answers of pods, in their order.
func (c *Clients) ask(ctx context.Context, pods []*corev1.Pod) []answer {
	answers := make([]answer, len(pods))
	var asked sync.WaitGroup
	for i, p := range pods {
		asked.Go(func() { answers[i] = c.Reports.of(ctx, p) })
	}
	asked.Wait()
	return answers
}

// removed returns the IDs of the retired subscriptions that every ready one of pods reports as removed: what one of them still has is
// there, or comes back.
func (c *Clients) removed(ctx context.Context, pods []*corev1.Pod) (ids []string) {
	for i, a := range c.ask(ctx, readyOnes(pods)) {
		switch {
		case a.err != nil || a.late(): // which may be about a time before it was used again
			return nil
		case i == 0:
			ids = slices.Clone(a.report.Retired)
		default:
			ids = slices.DeleteFunc(ids, func(id string) bool { return !slices.Contains(a.report.Retired, id) })
		}
	}
	return ids
}

// verdict says whether r is about the objects as hashes wants them, where an empty hash means not at all.
func verdict(r *plan.Report, hashes map[string]string) State {
	var problems, failing []string
	losing := ""
	for object, want := range hashes {
		got := r.Objects[object]
		switch {
		case got.Hash == want:
			problems, failing = append(problems, got.Problems...), append(failing, got.Failing...)
			losing = cmp.Or(losing, got.Losing)
		case r.Error != "":
			return State{Reason: ReasonNotApplied, Message: r.Error}
		default:
			return State{Reason: ReasonApplying, Message: "the latest change is not applied yet"}
		}
	}
	if len(problems) == 0 {
		slices.Sort(failing)
		return State{Ready: true, Failing: strings.Join(failing, "; "), Losing: losing}
	}
	slices.Sort(problems)
	s := State{Reason: ReasonApplying, Message: problems[0]}
	if i := slices.IndexFunc(problems, func(p string) bool { return !isStarting(p) }); i >= 0 {
		s = State{Reason: ReasonUnreachable, Message: problems[i]}
	}
	if n := len(problems) - 1; n > 0 {
		s.Message += fmt.Sprintf("; and %d more", n)
	}
	return s
}

func readyOnes(pods []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool {
		return !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
	})
}
