package condition

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/Knetic/govaluate"

	"github.com/openfunction/events/pkg/event"
)

// operand is one side of a comparison: a literal when input is -1, and otherwise an attribute, or a path into the data, of an input.
type operand struct {
	text      string
	literal   any
	input     int
	attribute string
	path      []string
}

// comparison is false when a side is missing or the sides are of different types, also for !=.
// Text, numbers and booleans can be compared; null, objects and arrays count as missing. Numbers are float64, see number.
type comparison struct {
	text        string
	left, right operand
	inputs      uint64
	expression  *govaluate.EvaluableExpression
}

var (
	errNoField   = errors.New("a comparison needs a field of an input, for example order.data.amount > 100")
	errUnordered = errors.New("true and false can only be compared with == and !=")

	flipped = map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
)

// newComparison puts literals on the right and fields in order, so that two ways to write one comparison are one variable.
func newComparison(left operand, operator string, right operand) (*comparison, error) {
	if left.input < 0 && right.input < 0 {
		return nil, errNoField
	}
	if left.input < 0 || right.input >= 0 && right.text < left.text {
		left, operator, right = right, flipped[operator], left
	}
	if _, isBool := right.literal.(bool); isBool && operator != "==" && operator != "!=" {
		return nil, errUnordered
	}
	expression, err := govaluate.NewEvaluableExpressionFromTokens([]govaluate.ExpressionToken{
		{Kind: govaluate.VARIABLE, Value: "left"},
		{Kind: govaluate.COMPARATOR, Value: operator},
		{Kind: govaluate.VARIABLE, Value: "right"},
	})
	if err != nil {
		return nil, fmt.Errorf("%s %s %s: %w", left.text, operator, right.text, err)
	}
	return &comparison{text: left.text + " " + operator + " " + right.text, left: left, right: right, expression: expression}, nil
}

// sides are the parameters of a comparison.
type sides struct{ left, right any }

var errNoSide = errors.New("no such side")

// Get implements govaluate.Parameters.
func (s sides) Get(name string) (any, error) {
	switch name {
	case "left":
		return s.left, nil
	case "right":
		return s.right, nil
	}
	return nil, errNoSide
}

// holds compares the fields of the two events; both are the same one if the comparison is on one input.
func (c *comparison) holds(left, right *document) bool {
	l, r := c.left.value(left), c.right.value(right)
	l, r = alike(l, r)
	if l == nil || r == nil {
		return false
	}
	return c.evaluate(sides{l, r})
}

// evaluate never panics: govaluate's operators do when they meet what they do not expect.
func (c *comparison) evaluate(s sides) (holds bool) {
	defer func() {
		if recover() != nil {
			holds = false
		}
	}()
	value, err := c.expression.Eval(s)
	return err == nil && value == true
}

// attribute is the value of an attribute, which is text on most transports whatever its producer meant.
type attribute string

// alike returns the two values as one type that can be compared, or nils. An attribute is read as what it is compared with,
// for order.priority > 3 must not depend on whether the event came in headers or in JSON.
func alike(l, r any) (any, any) {
	if a, ok := l.(attribute); ok {
		l = a.as(r)
	}
	if a, ok := r.(attribute); ok {
		r = a.as(l)
	}
	switch l.(type) {
	case string:
		if _, ok := r.(string); ok {
			return l, r
		}
	case bool:
		if _, ok := r.(bool); ok {
			return l, r
		}
	default:
		if left, right, ok := compared(l, r); ok {
			return left, right
		}
	}
	return nil, nil
}

func (a attribute) as(other any) any {
	switch other.(type) {
	case float64, *big.Rat:
		if strings.ContainsAny(string(a), "xXpPiInN_") {
			return nil
		}
		return number(string(a))
	case bool:
		if a == "true" || a == "false" {
			return a == "true"
		}
		return nil
	}
	return string(a)
}

// value returns the operand's string, number, bool or attribute; nil if it is missing.
func (o *operand) value(d *document) any {
	if o.input < 0 {
		return o.literal
	}
	if d.event == nil {
		return nil
	}
	if o.attribute == "data" {
		return d.field(o.path)
	}
	if a := attributeOf(d.event, o.attribute); a != "" {
		return a
	}
	return nil
}

func attributeOf(e *event.Event, name string) attribute {
	switch name {
	case "type":
		return attribute(e.Type())
	case "source":
		return attribute(e.Source())
	case "id":
		return attribute(e.ID())
	case "subject":
		return attribute(e.Subject())
	case "datacontenttype":
		return attribute(e.DataContentType())
	case "dataschema":
		return attribute(e.DataSchema())
	case "specversion":
		return attribute(e.SpecVersion())
	case "time":
		if t := e.Time(); !t.IsZero() {
			return attribute(t.UTC().Format(time.RFC3339Nano))
		}
		return ""
	}
	switch v := e.Extensions()[name].(type) {
	case nil:
		return ""
	case string:
		return attribute(v)
	case []byte:
		return attribute(base64.StdEncoding.EncodeToString(v))
	default:
		return attribute(fmt.Sprint(v))
	}
}

// document is an event whose data is read as JSON, whatever its content type says, when a field is first asked for.
// It is for one goroutine.
type document struct {
	event *event.Event
	read  bool
	data  any
}

// field returns the string, number or bool at the path of the data, and nil if there is none.
func (d *document) field(path []string) any {
	if !d.read {
		d.data, d.read = event.ReadJSON(d.event.DataEncoded), true
	}
	value := event.Field(d.data, path)
	if n, ok := value.(json.Number); ok {
		return number(string(n))
	}
	return value
}
