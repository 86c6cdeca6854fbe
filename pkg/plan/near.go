package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// near says which EventSources the writer of o may have meant. It tells a namespace only of those that it may use, unless
// one reader knows them all.
func (c *compiler) near(o object, namespace string) string {
	var here, elsewhere []string
	for other, es := range c.eventSources {
		if !c.opts.OneReader && !allows(es, namespace) {
			continue
		}
		switch {
		case other.namespace == o.namespace:
			here = append(here, other.name)
		case other.name == o.name:
			elsewhere = append(elsewhere, other.namespace)
		}
	}
	if len(elsewhere) > 0 {
		slices.Sort(elsewhere)
		if !allows(c.eventSources[object{o.kind, elsewhere[0], o.name}], namespace) {
			return fmt.Sprintf("; there is %s/%s: set namespace: %s, and add %s to the spec.allowedNamespaces there", elsewhere[0], o.name, elsewhere[0], namespace)
		}
		return fmt.Sprintf("; there is %s/%s: set namespace: %s to use it", elsewhere[0], o.name, elsewhere[0])
	}
	if len(here) == 0 { // or none that it may know of
		return ""
	}
	return thereAre(closest(o.name, here))
}

// thereAre lists at most five names.
func thereAre(names []string) string {
	switch n := len(names); {
	case n == 0:
		return "; there are none"
	case n > 5:
		return fmt.Sprintf("; there are: %s and %d more", strings.Join(names[:5], ", "), n-5)
	}
	return "; there are: " + strings.Join(names, ", ")
}

// closest returns the names that read most like name first.
func closest(name string, names []string) []string {
	return slices.SortedFunc(slices.Values(names), func(a, b string) int {
		return cmp.Or(cmp.Compare(distance(name, a), distance(name, b)), cmp.Compare(a, b))
	})
}

// Nearest returns the candidate that a typing mistake may have been meant to be, or the only one that begins or ends with name, or nothing.
func Nearest(name string, candidates []string) string {
	if len(name) > 64 { // no name of a field, and the comparison takes its square
		return ""
	}
	best, bestDistance := "", 1+max(1, len(name)/3)
	var longer []string
	for _, c := range candidates {
		small, letters := strings.ToLower(c), strings.ToLower(name)
		if small == letters {
			return c
		}
		if d := distance(letters, small); d < bestDistance {
			best, bestDistance = c, d
		}
		if len(name) > 2 && (strings.HasPrefix(small, letters) || strings.HasSuffix(small, letters)) {
			longer = append(longer, c)
		}
	}
	if best == "" && len(longer) == 1 {
		return longer[0]
	}
	return best
}

// distance is the number of letters to insert, drop, replace or swap with the next one to get from a to b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			rows[i][j] = min(replace, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
