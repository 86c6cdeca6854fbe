package condition

import (
	"cmp"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// TestNumbersCompareAsTheyAreWritten compares random numbers, many of them near each other and where float64 gets coarse, with their exact values.
func TestNumbersCompareAsTheyAreWritten(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func(near int64) string {
		n := near + random.Int64N(5) - 2
		switch random.IntN(4) {
		case 0:
			return strconv.FormatInt(n, 10) + ".0"
		case 1:
			return strconv.FormatInt(n, 10) + "0e-1"
		}
		return strconv.FormatInt(n, 10)
	}
	for range 20000 {
		near := (int64(1)<<random.IntN(62) + 3) * int64(1-2*random.IntN(2))
		a, b := text(near), text(near)
		left, right, ok := compared(number(a), number(b))
		x, _ := new(big.Rat).SetString(a)
		y, _ := new(big.Rat).SetString(b)
		if got, want := cmp.Compare(left, right), x.Cmp(y); !ok || got != want {
			t.Fatalf("%s and %s compare as %d, want %d", a, b, got, want)
		}
	}
}

func TestNumbersThatAreNotExact(t *testing.T) {
	for _, text := range []string{"0.1", "-1.5e300", "9007199254740991", strings.Repeat("9", 300) + ".5" + strings.Repeat("0", 200)} {
		if v := number(text); v == nil {
			t.Errorf("number(%.20s) is none", text)
		} else if _, float := v.(float64); !float && text != "-1.5e300" {
			t.Errorf("number(%.20s) is a %T, want a float64", text, v)
		}
	}
	for _, text := range []string{"1e999", "x", "", strings.Repeat("9", 500)} {
		if v := number(text); v != nil {
			t.Errorf("number(%.20s) = %v, want none", text, v)
		}
	}
}
