package objects

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
)

// maxSentences bounds how many problems a message tells.
const maxSentences = 3

// Bus says whether the bus of the object can be used, as far as others than its own workloads know.
func (c *Compiled) Bus() v1alpha1.Verdict {
	if v, ok := c.Verdict("spec.eventBus"); ok {
		return v
	}
	switch {
	case c.Invalid:
		return Unseen()
	case c.BusName == "":
		return v1alpha1.NotUsed("spec.eventBus is not set")
	case c.BusReady == nil:
		return v1alpha1.Pending("BusPending", c.BusName+" is not known to answer yet")
	case c.BusReady.IsUnknown():
		return v1alpha1.Pending(cmp.Or(c.BusReady.Reason, "BusPending"), c.BusName+": "+cmp.Or(c.BusReady.Message, "not known to answer yet"))
	case c.BusReady.IsFalse():
		return v1alpha1.Bad(c.BusReady.Reason, c.BusName+": "+c.BusReady.Message)
	}
	return v1alpha1.Good()
}

// Unseen is the verdict on a part of an object that is not valid.
func Unseen() v1alpha1.Verdict {
	return v1alpha1.Pending(plan.ReasonInvalid, "not looked at until the object is valid")
}

// Verdict says what is wrong at and below the paths, if something is.
func (c *Compiled) Verdict(paths ...string) (v v1alpha1.Verdict, ok bool) {
	return verdict(slices.DeleteFunc(slices.Clone(c.Problems), func(p plan.Problem) bool { return !below(p.Path, paths) }))
}

// Others says what is wrong elsewhere than at and below the paths, if something is.
func (c *Compiled) Others(paths ...string) (v v1alpha1.Verdict, ok bool) {
	return verdict(slices.DeleteFunc(slices.Clone(c.Problems), func(p plan.Problem) bool { return below(p.Path, paths) }))
}

func below(path string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		rest, ok := strings.CutPrefix(path, root)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

func verdict(problems []plan.Problem) (v1alpha1.Verdict, bool) {
	if len(problems) == 0 {
		return v1alpha1.Verdict{}, false
	}
	var sentences []string
	for _, p := range problems {
		sentences = append(sentences, p.Path+": "+p.Message)
	}
	return v1alpha1.Bad(problems[0].Reason, together(sentences)), true
}

// Count is how many of several things are ready.
type Count struct{ ready, all int }

// Add counts one more.
func (c *Count) Add(ready bool) {
	c.all++
	if ready {
		c.ready++
	}
}

// String is ready/all.
func (c *Count) String() string { return fmt.Sprintf("%d/%d", c.ready, c.all) }
