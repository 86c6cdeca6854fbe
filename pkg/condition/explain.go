package condition

import (
	"fmt"
	"strings"
)

// Explain says in sentences, one per line, which inputs fire the condition and which are held for the window.
func (c *Condition) Explain() string {
	var out strings.Builder
	for i, name := range c.inputs {
		fmt.Fprintf(&out, "%s %s", name, c.explainFiring(i))
		if held := c.explainHeld(i); held != "" {
			fmt.Fprintf(&out, " %s", held)
		}
		out.WriteByte('\n')
	}
	if c.Stateless() {
		out.WriteString("Every arrival is decided by itself: nothing is held, and the window does not matter.\n")
	}
	if len(c.comparisons) > 0 {
		out.WriteString("A comparison is false while its field is missing, has another type, or its input has not arrived.\n")
	}
	return out.String()
}

func (c *Condition) explainFiring(x int) string {
	if c.positive>>x&1 == 0 {
		return "never fires: it stands only under a !."
	}
	always, ever := true, false
	for i := range c.rows() {
		if i>>x&1 == 1 && c.possible(i) {
			fires := c.table.at(i)
			always, ever = always && fires, ever || fires
		}
	}
	switch {
	case always:
		return "fires whenever it arrives."
	case !ever:
		return "never fires: the condition is false whenever it arrives."
	case c.depends[x] == 0:
		return "fires when its own comparisons allow it."
	}
	return fmt.Sprintf("fires if the condition is true when it arrives, which depends on %s.", list(c.names(c.depends[x])))
}

func (c *Condition) explainHeld(y int) string {
	var by uint64
	for x, needs := range c.depends {
		if needs>>y&1 == 1 {
			by |= 1 << x
		}
	}
	if by == 0 {
		return ""
	}
	return fmt.Sprintf("Its latest event is held for the window, since it matters to %s.", list(c.names(by)))
}

func list(names []string) string {
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}
