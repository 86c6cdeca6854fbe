package condition

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/Knetic/govaluate"
)

// maxLength bounds an expression, and with it how deep it can be nested.
const maxLength = 4096

// node is a boolean expression. Op is '&', '|' or '!', which has only a left side, or 0 for a variable.
type node struct {
	op          byte
	left, right *node

	input      int // index of the input, or -1 for a comparison
	comparison int
	bit        int
}

// number sets the bits of the variables: inputs as the map says, comparisons after them.
func (n *node) number(inputs map[int]int, count int) {
	switch {
	case n.op != 0:
		n.left.number(inputs, count)
		if n.right != nil {
			n.right.number(inputs, count)
		}
	case n.input >= 0:
		n.bit = inputs[n.input]
	default:
		n.bit = count + n.comparison
	}
}

// occurrences returns the inputs that occur under an even number of negations, counting one more if negated.
func (n *node) occurrences(negated bool, comparisons []*comparison) uint64 {
	switch {
	case n.op == '!':
		return n.left.occurrences(!negated, comparisons)
	case n.op != 0:
		return n.left.occurrences(negated, comparisons) | n.right.occurrences(negated, comparisons)
	case negated:
		return 0
	case n.input >= 0:
		return 1 << n.bit
	}
	return comparisons[n.comparison].inputs
}

// parser reads: or = and {"||" and}; and = not {"&&" not}; not = "!" not | "(" or ")" | input | operand comparator operand.
type parser struct {
	lexer
	inputs      []string
	tok         token
	used        map[int]bool
	comparisons []*comparison
}

func tooMany(n int) error {
	return fmt.Errorf("%d inputs and comparisons, but a condition can have at most %d: split it over several subscribers", n, maxVariables)
}

func (p *parser) parse() (*node, error) {
	if len(p.src) > maxLength {
		return nil, fmt.Errorf("%d bytes, but a condition can have at most %d: split it over several subscribers", len(p.src), maxLength)
	}
	p.used = make(map[int]bool)
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.end() {
		return nil, fmt.Errorf("the condition is empty: name an input (%s)", p.known())
	}
	root, err := p.or()
	if err != nil {
		return nil, err
	}
	if p.tok.end() {
		return root, nil
	}
	return nil, p.unexpected()
}

// unexpected is the error of a token where the expression could have ended.
func (p *parser) unexpected() error {
	switch t := p.tok; {
	case t.Kind == govaluate.CLAUSE_CLOSE:
		return p.failure(t.at, ") has no opening (")
	case t.Kind == govaluate.NUMERIC && strings.HasPrefix(t.text, "-"):
		return p.failure(t.at, "unexpected %s: there is no arithmetic", t.text)
	case t.Kind == govaluate.VARIABLE && strings.EqualFold(t.text, "and"):
		return p.failure(t.at, "unexpected %q: write && for and", t.text)
	case t.Kind == govaluate.VARIABLE && strings.EqualFold(t.text, "or"):
		return p.failure(t.at, "unexpected %q: write || for or", t.text)
	case t.Kind == govaluate.COMPARATOR:
		return p.failure(t.at, "unexpected %s: comparisons cannot be compared; join them with && or ||", t.text)
	default:
		return p.failure(t.at, "unexpected %s: write && or || before it", t.text)
	}
}

func (p *parser) known() string {
	if len(p.inputs) == 0 {
		return "there are no inputs"
	}
	return "inputs are " + strings.Join(p.inputs, ", ")
}

func (p *parser) advance() (err error) {
	p.tok, err = p.next()
	return err
}

func (p *parser) or() (*node, error) { return p.chain("||", p.and) }

func (p *parser) and() (*node, error) { return p.chain("&&", p.not) }

func (p *parser) chain(operator string, next func() (*node, error)) (*node, error) {
	left, err := next()
	for err == nil && p.tok.Kind == govaluate.LOGICALOP && p.tok.text == operator {
		if err = p.advance(); err != nil {
			break
		}
		var right *node
		right, err = next()
		left = &node{op: operator[0], left: left, right: right}
	}
	if err != nil {
		return nil, err
	}
	return left, nil
}

func (p *parser) not() (*node, error) {
	switch p.tok.Kind {
	case govaluate.PREFIX:
		if err := p.advance(); err != nil {
			return nil, err
		}
		operand, err := p.not()
		if err != nil {
			return nil, err
		}
		return &node{op: '!', left: operand}, nil
	case govaluate.CLAUSE:
		return p.group()
	case govaluate.VARIABLE:
		return p.variable()
	case govaluate.ACCESSOR, govaluate.STRING, govaluate.NUMERIC, govaluate.BOOLEAN:
		return p.compare()
	case govaluate.UNKNOWN:
		return nil, p.failure(p.tok.at, "the condition ends where an input or a comparison is missing")
	}
	return nil, p.failure(p.tok.at, "unexpected %s: an input or a comparison is missing before it", p.tok.text)
}

func (p *parser) group() (*node, error) {
	open := p.tok.at
	if err := p.advance(); err != nil {
		return nil, err
	}
	n, err := p.or()
	switch {
	case err != nil:
		return nil, err
	case p.tok.end():
		return nil, p.failure(open, "( has no closing )")
	case p.tok.Kind != govaluate.CLAUSE_CLOSE:
		return nil, p.unexpected()
	}
	return n, p.advance()
}

func (p *parser) variable() (*node, error) {
	name := p.tok
	i, err := p.input(name, name.text)
	if err != nil {
		return nil, err
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.Kind == govaluate.COMPARATOR {
		return nil, p.failure(name.at, "%s is an input, which cannot be compared: compare a field of it, for example %s.data.amount or %s.type", name.text, name.text, name.text)
	}
	return &node{input: i}, nil
}

func (p *parser) input(t token, name string) (int, error) {
	i := slices.Index(p.inputs, name)
	if i < 0 {
		return 0, p.failure(t.at, "unknown input %q (%s)", name, p.known())
	}
	p.used[i] = true
	return i, nil
}

func (p *parser) compare() (*node, error) {
	first := p.tok
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	if p.tok.Kind != govaluate.COMPARATOR {
		return nil, p.uncompared(first)
	}
	operator := p.tok.text
	if err := p.advance(); err != nil {
		return nil, err
	}
	right, err := p.operand()
	if err != nil {
		return nil, err
	}
	cmp, err := newComparison(left, operator, right)
	if err != nil {
		return nil, p.failure(first.at, "%s", err)
	}
	same := func(c *comparison) bool { return c.text == cmp.text }
	i := slices.IndexFunc(p.comparisons, same)
	if i < 0 {
		i = len(p.comparisons)
		p.comparisons = append(p.comparisons, cmp)
	}
	return &node{input: -1, comparison: i}, nil
}

func (p *parser) uncompared(t token) error {
	switch t.Kind {
	case govaluate.ACCESSOR:
		return p.failure(t.at, "%s must be compared with something, for example %s == true", t.text, t.text)
	case govaluate.BOOLEAN:
		return p.failure(t.at, "%s cannot stand alone: it is neither an input nor a comparison", t.text)
	default:
		return p.failure(t.at, "%s must be compared with a field of an input, for example order.type == 'created'", t.text)
	}
}

func (p *parser) operand() (operand, error) {
	t := p.tok
	o := operand{input: -1, text: fmt.Sprintf("%#v", t.Value), literal: t.Value}
	if exact, ok := t.Value.(*big.Rat); ok {
		o.text = exact.RatString()
	}
	switch t.Kind {
	case govaluate.STRING, govaluate.NUMERIC, govaluate.BOOLEAN:
	case govaluate.ACCESSOR:
		parts := t.Value.([]string)
		i, err := p.input(t, parts[0])
		if err != nil {
			return o, err
		}
		o = operand{input: i, text: t.text, attribute: parts[1], path: parts[2:]}
		if err := o.check(parts[0]); err != nil {
			return o, p.failure(t.at, "%s", err)
		}
	case govaluate.VARIABLE:
		return o, p.failure(t.at, "%s cannot be compared: put text in quotes, and write fields with their input, for example order.data.amount", t.text)
	case govaluate.UNKNOWN:
		return o, p.failure(t.at, "the condition ends where a value is missing: text in quotes, a number, true, false or a field of an input")
	default:
		return o, p.failure(t.at, "unexpected %s: a value is missing before it: text in quotes, a number, true, false or a field of an input", t.text)
	}
	return o, p.advance()
}

func (o *operand) check(input string) error {
	if o.attribute == "data" {
		return nil
	}
	if len(o.path) > 0 {
		return fmt.Errorf("%s: the attribute %s has no fields; fields of the data are written %s.data.%s", o.text, o.attribute, input, strings.Join(o.path, "."))
	}
	for i := range len(o.attribute) {
		if c := o.attribute[i]; (c < 'a' || c > 'z') && !isDigit(c) {
			return fmt.Errorf("%s: attribute names have only lower-case letters and digits; fields of the data are written %s.data.%s", o.text, input, o.attribute)
		}
	}
	return nil
}
