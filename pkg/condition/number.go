package condition

import (
	"math"
	"math/big"
	"strconv"
)

const (
	// exactBelow is where float64 ceases to hold every whole number.
	exactBelow = 1 << 53
	// maxExact bounds the text of a number that is compared exactly: more digits than identifiers have are not worth the time.
	maxExact = 400
)

// number returns the value of a decimal number: a float64, or a *big.Rat if it is large and float64 does not hold it, as is the case with
// many identifiers of 64 bits. It is nil for what is no number, or larger than any float64.
func number(text string) any {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil
	}
	if math.Abs(f) < exactBelow || len(text) > maxExact {
		return f
	}
	exact, ok := new(big.Rat).SetString(text)
	if !ok || exact.Cmp(new(big.Rat).SetFloat64(f)) == 0 {
		return f
	}
	return exact
}

// compared returns two numbers that are to each other as l and r are, as float64. ok is false unless both are numbers.
func compared(l, r any) (left, right float64, ok bool) {
	left, lok := l.(float64)
	right, rok := r.(float64)
	if lok && rok {
		return left, right, true
	}
	a, b := exactly(l), exactly(r)
	if a == nil || b == nil {
		return 0, 0, false
	}
	return float64(a.Cmp(b)), 0, true
}

func exactly(v any) *big.Rat {
	switch v := v.(type) {
	case float64:
		return new(big.Rat).SetFloat64(v)
	case *big.Rat:
		return v
	}
	return nil
}
