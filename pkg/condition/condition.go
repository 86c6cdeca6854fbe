// Package condition decides which arrivals of events fire a subscriber: it parses, explains and evaluates conditions, and keeps their windows.
package condition

import (
	"math/bits"
	"slices"

	"github.com/openfunction/events/pkg/event"
)

// maxVariables bounds the inputs and distinct comparisons of one condition, and with them its truth table: 128 KiB at most.
const maxVariables = 20

// Condition is a parsed expression over the inputs of a trigger. It never changes: many goroutines may use it at once.
//
// An arrival fires it if and only if it is true at that moment and the arriving input occurs in it under an even number of negations.
// A comparison on an input is an occurrence of that input, and is false while the input is not true. Its price is one lookup in a
// truth table of 2^(inputs+comparisons) bits, made by Parse, plus the comparisons of the arriving event, less than a microsecond each,
// plus reading its data as JSON, once, when a comparison looks into it.
type Condition struct {
	text        string
	inputs      []string
	comparisons []*comparison
	table       table

	all      uint64   // the bits of the inputs; those of the comparisons follow
	positive uint64   // inputs whose arrival can fire
	depends  []uint64 // by input: the other inputs that can change what its arrival does
	matters  uint64   // inputs that some other positive input depends on
	alone    []uint64 // by input: comparisons on this input and no other
	involves []uint64 // by input: its own bit and all comparisons on it
	joint    []int    // comparisons on two inputs
}

// Parse reads an expression over the named inputs. What occurs in it decides the price of everything else: up to 20 inputs and
// distinct comparisons are accepted, and the time to parse doubles with each, from microseconds to a quarter of a second.
// The error says where the mistake is and what to do about it. An expression that no arrival can ever make fire is one.
func Parse(expr string, inputs []string) (*Condition, error) {
	p := parser{lexer: lexer{src: expr}, inputs: inputs}
	root, err := p.parse()
	if err != nil {
		return nil, err
	}
	c := &Condition{text: expr, comparisons: p.comparisons}
	c.number(root, &p)
	if n := len(c.inputs) + len(c.comparisons); n > maxVariables {
		return nil, tooMany(n)
	}
	if c.table, err = tabulate(root, len(c.inputs)+len(c.comparisons)); err != nil {
		return nil, err
	}
	c.positive = root.occurrences(false, c.comparisons)
	if err := c.check(); err != nil {
		return nil, err
	}
	c.relate()
	return c, nil
}

// number gives every input and comparison that occurs its bit: inputs first, in the order of the argument of Parse.
func (c *Condition) number(root *node, p *parser) {
	bit := make(map[int]int, len(p.inputs))
	for i, name := range p.inputs {
		if p.used[i] {
			bit[i] = len(c.inputs)
			c.inputs = append(c.inputs, name)
		}
	}
	c.all = 1<<len(c.inputs) - 1
	for j, cmp := range c.comparisons {
		for _, o := range [...]*operand{&cmp.left, &cmp.right} {
			if o.input >= 0 {
				o.input = bit[o.input]
				cmp.inputs |= 1 << o.input
			}
		}
		if bits.OnesCount64(cmp.inputs) > 1 {
			c.joint = append(c.joint, j)
		}
	}
	root.number(bit, len(c.inputs))
}

// String returns the expression as it was given to Parse.
func (c *Condition) String() string { return c.text }

// Inputs returns the inputs that occur, in the order of the argument of Parse. The input at index i has the bit 1<<i.
func (c *Condition) Inputs() []string { return slices.Clone(c.inputs) }

// Mask returns the bit of an input, and 0 if it does not occur.
func (c *Condition) Mask(input string) uint64 {
	if i := slices.Index(c.inputs, input); i >= 0 {
		return 1 << i
	}
	return 0
}

// Stateless tells whether what an arrival does never depends on other inputs. Then no window is needed: Fires answers.
func (c *Condition) Stateless() bool { return c.matters == 0 }

// Fires tells whether the arrival of e as the inputs of the mask fires a stateless condition; another one is answered as if nothing
// else had arrived. It allocates nothing when the condition has no comparisons.
func (c *Condition) Fires(arrived uint64, e *event.Event) bool {
	arrived &= c.all
	if arrived&c.positive == 0 {
		return false
	}
	if len(c.comparisons) > 0 {
		return c.table.at(arrived | c.compare(arrived, &document{event: e}))
	}
	return c.table.at(arrived)
}

// compare returns the bits of the comparisons on no other than the arrived inputs that hold for d.
func (c *Condition) compare(arrived uint64, d *document) (holds uint64) {
	for j, cmp := range c.comparisons {
		if cmp.inputs&^arrived == 0 && cmp.holds(d, d) {
			holds |= 1 << (len(c.inputs) + j)
		}
	}
	return holds
}
