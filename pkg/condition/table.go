package condition

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/Knetic/govaluate"
)

// table holds the value of a condition for every assignment of its variables: bit i is its value where variable v is bit v of i.
type table []uint64

func (t table) at(i uint64) bool { return t[i>>6]>>(i&63)&1 == 1 }

// budget bounds how much govaluate may do to make a table: about 10 ms. Twelve inputs and comparisons fit in it.
const budget = 1 << 17

// tabulate evaluates root for every assignment of its n variables.
func tabulate(root *node, n int) (table, error) {
	if root.size()<<n > budget {
		return tabulateWords(root, n), nil
	}
	return tabulateGovaluate(root, n)
}

func (n *node) size() int {
	if n == nil {
		return 0
	}
	return 1 + n.left.size() + n.right.size()
}

// assignment is one row of the table; a variable's name is its bit.
type assignment uint64

// Get implements govaluate.Parameters.
func (a assignment) Get(name string) (any, error) {
	bit, err := strconv.Atoi(name)
	return a>>bit&1 == 1, err
}

func tabulateGovaluate(root *node, n int) (t table, err error) {
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, fmt.Errorf("cannot be evaluated: %v", r)
		}
	}()
	expression, err := govaluate.NewEvaluableExpressionFromTokens(root.tokens(nil))
	if err != nil {
		return nil, fmt.Errorf("cannot be evaluated: %w", err)
	}
	t = make(table, (1<<n+63)/64)
	for i := range uint64(1) << n {
		value, err := expression.Eval(assignment(i))
		if err != nil {
			return nil, fmt.Errorf("cannot be evaluated: %w", err)
		}
		if value == true {
			t[i>>6] |= 1 << (i & 63)
		}
	}
	return t, nil
}

// tokens appends n with all its parentheses: govaluate reorders chains of operators, and does not accept !!a.
func (n *node) tokens(to []govaluate.ExpressionToken) []govaluate.ExpressionToken {
	if n.op == 0 {
		return append(to, govaluate.ExpressionToken{Kind: govaluate.VARIABLE, Value: strconv.Itoa(n.bit)})
	}
	if n.op == '!' {
		to = append(to, govaluate.ExpressionToken{Kind: govaluate.PREFIX, Value: "!"})
	}
	to = append(to, govaluate.ExpressionToken{Kind: govaluate.CLAUSE, Value: '('})
	to = n.left.tokens(to)
	if n.op != '!' {
		to = append(to, govaluate.ExpressionToken{Kind: govaluate.LOGICALOP, Value: string([]byte{n.op, n.op})})
		to = n.right.tokens(to)
	}
	return append(to, govaluate.ExpressionToken{Kind: govaluate.CLAUSE_CLOSE, Value: ')'})
}

// tabulateWords makes the same table 64 rows at a time, for conditions that would keep govaluate busy for seconds.
func tabulateWords(root *node, n int) table {
	t := make(table, (1<<n+63)/64)
	for i := range t {
		t[i] = root.word(i)
	}
	if n < 6 {
		t[0] &= 1<<(1<<n) - 1
	}
	return t
}

// columns are the values of the variables 0 to 5 in every word of a table.
var columns = [6]uint64{
	0xaaaaaaaaaaaaaaaa, 0xcccccccccccccccc, 0xf0f0f0f0f0f0f0f0, 0xff00ff00ff00ff00, 0xffff0000ffff0000, 0xffffffff00000000,
}

func (n *node) word(i int) uint64 {
	switch n.op {
	case '!':
		return ^n.left.word(i)
	case '&':
		return n.left.word(i) & n.right.word(i)
	case '|':
		return n.left.word(i) | n.right.word(i)
	}
	if n.bit < len(columns) {
		return columns[n.bit]
	}
	return -uint64(i >> (n.bit - len(columns)) & 1)
}

// possible tells whether an assignment can occur: a comparison holds only while its inputs are true.
func (c *Condition) possible(i uint64) bool {
	for rest, j := i>>len(c.inputs), 0; rest != 0; rest, j = rest>>1, j+1 {
		if rest&1 == 1 && i&c.comparisons[j].inputs != c.comparisons[j].inputs {
			return false
		}
	}
	return true
}

func (c *Condition) rows() uint64 { return 1 << (len(c.inputs) + len(c.comparisons)) }

var (
	errOnlyNegated = errors.New("nothing can make it fire: every input stands under a !, and only the arrival of an input without one fires; add such an input, for example !a && b")
	errNeverTrue   = errors.New("nothing can make it fire: it is never true, whatever arrives")
)

// check returns why no arrival can ever make the condition fire.
func (c *Condition) check() error {
	if c.positive == 0 {
		return errOnlyNegated
	}
	ever := false
	for i := range c.rows() {
		if !c.table.at(i) || !c.possible(i) {
			continue
		}
		if i&c.positive != 0 {
			return nil
		}
		ever = true
	}
	if !ever {
		return errNeverTrue
	}
	return fmt.Errorf("nothing can make it fire: it is false once %s has arrived", strings.Join(c.names(c.positive), " or "))
}

func (c *Condition) names(mask uint64) []string {
	var names []string
	for i, name := range c.inputs {
		if mask>>i&1 == 1 {
			names = append(names, name)
		}
	}
	return names
}

// relate finds out which inputs can change what the arrival of which others does: y does to x where, while x is true,
// the condition is another one without y than with it.
func (c *Condition) relate() {
	n := len(c.inputs)
	c.alone, c.involves, c.depends = make([]uint64, n), make([]uint64, n), make([]uint64, n)
	for y := range n {
		c.involves[y] = 1 << y
		for j, cmp := range c.comparisons {
			if cmp.inputs>>y&1 == 1 {
				c.involves[y] |= 1 << (n + j)
			}
			if cmp.inputs == 1<<y {
				c.alone[y] |= 1 << (n + j)
			}
		}
		changed := c.changedBy(y)
		for x := range n {
			c.depends[x] |= changed >> x & 1 << y
		}
		if changed != 0 {
			c.matters |= 1 << y
		}
	}
}

func (c *Condition) changedBy(y int) (changed uint64) {
	others := c.positive &^ (1 << y)
	for i := range c.rows() {
		if i>>y&1 == 1 && i&others&^changed != 0 && c.table.at(i) != c.table.at(i&^c.involves[y]) && c.possible(i) {
			changed |= i & others
		}
	}
	return changed
}
