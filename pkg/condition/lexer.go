package condition

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/Knetic/govaluate"
)

// lexer cuts an expression into govaluate's tokens. govaluate's own takes hyphens for subtraction and '2026-01-01' for a time, and
// accepts arithmetic, functions and regular expressions, so that only this one decides what the language is.
type lexer struct {
	src string
	pos int
}

// token is a token of govaluate with its place in the expression. At the end the kind is UNKNOWN and the text empty.
// The value of an ACCESSOR is a []string of two or more parts.
type token struct {
	govaluate.ExpressionToken
	text string
	at   int
}

func (t token) end() bool { return t.Kind == govaluate.UNKNOWN }

// failure is an error at an offset of the expression.
func (l *lexer) failure(at int, format string, args ...any) error {
	line := 1 + strings.Count(l.src[:at], "\n")
	column := 1 + utf8.RuneCountInString(l.src[strings.LastIndexByte(l.src[:at], '\n')+1:at])
	message := fmt.Sprintf(format, args...)
	if line > 1 {
		return fmt.Errorf("line %d, column %d: %s", line, column, message)
	}
	return fmt.Errorf("column %d: %s", column, message)
}

func (l *lexer) next() (token, error) {
	for l.pos < len(l.src) && strings.IndexByte(" \t\r\n", l.src[l.pos]) >= 0 {
		l.pos++
	}
	if l.pos == len(l.src) {
		return token{at: l.pos}, nil
	}
	switch c := l.src[l.pos]; {
	case isLetter(c):
		return l.name()
	case isDigit(c), c == '-' && l.pos+1 < len(l.src) && isDigit(l.src[l.pos+1]):
		return l.number()
	case c == '\'' || c == '"':
		return l.quoted(c)
	}
	return l.symbol()
}

func isLetter(c byte) bool   { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }
func isDigit(c byte) bool    { return c >= '0' && c <= '9' }
func isNamePart(c byte) bool { return isLetter(c) || isDigit(c) || c == '-' }

// scan moves over the bytes that is accepts and tells whether there were any.
func (l *lexer) scan(is func(byte) bool) bool {
	start := l.pos
	for l.pos < len(l.src) && is(l.src[l.pos]) {
		l.pos++
	}
	return l.pos > start
}

func (l *lexer) token(start int, kind govaluate.TokenKind, value any) token {
	return token{ExpressionToken: govaluate.ExpressionToken{Kind: kind, Value: value}, text: l.src[start:l.pos], at: start}
}

func (l *lexer) name() (token, error) {
	start := l.pos
	l.scan(isNamePart)
	parts := []string{l.src[start:l.pos]}
	for l.follows('.') || l.follows('[') && len(parts) > 1 && parts[1] == "data" {
		part, err := l.part(start)
		if err != nil {
			return token{}, err
		}
		parts = append(parts, part)
	}
	switch text := l.src[start:l.pos]; {
	case len(parts) > 1:
		return l.token(start, govaluate.ACCESSOR, parts), nil
	case text == "true" || text == "false":
		return l.token(start, govaluate.BOOLEAN, text == "true"), nil
	default:
		return l.token(start, govaluate.VARIABLE, text), nil
	}
}

func (l *lexer) follows(c byte) bool { return l.pos < len(l.src) && l.src[l.pos] == c }

// part reads what follows in the path that begins at start: a name after a dot, or any text as ["text"].
func (l *lexer) part(start int) (string, error) {
	at := l.pos
	l.pos++
	if l.src[at] == '.' {
		if !l.scan(isNamePart) {
			return "", l.failure(l.pos, "a field name must follow the dot of %q, for example order.data.amount or order.data.items.0", l.src[start:l.pos])
		}
		return l.src[at+1 : l.pos], nil
	}
	if !l.follows('"') && !l.follows('\'') {
		return "", l.failure(at, "unexpected '[': %s", hints['['])
	}
	t, err := l.quoted(l.src[l.pos])
	if err != nil {
		return "", err
	}
	if !l.follows(']') {
		return "", l.failure(l.pos, "the name %s has no closing ]", t.text)
	}
	l.pos++
	return t.Value.(string), nil
}

func (l *lexer) number() (token, error) {
	start := l.pos
	l.pos++ // a digit, or the sign before one
	l.scan(isDigit)
	if l.pos < len(l.src) && l.src[l.pos] == '.' {
		l.pos++
		l.scan(isDigit)
	}
	if l.pos < len(l.src) && l.src[l.pos]|0x20 == 'e' {
		l.pos++
		if l.pos < len(l.src) && (l.src[l.pos] == '+' || l.src[l.pos] == '-') {
			l.pos++
		}
		l.scan(isDigit)
	}
	l.scan(func(c byte) bool { return isNamePart(c) || c == '.' }) // to name all of what is wrong
	text := l.src[start:l.pos]
	if value := number(text); value != nil && !strings.ContainsAny(text, "xX_pP") && !strings.HasSuffix(text, ".") {
		return l.token(start, govaluate.NUMERIC, value), nil
	}
	return token{}, l.failure(start, "%q is not a number; write for example 100, -1.5 or 2e6, begin names with a letter, and put text in quotes", text)
}

func (l *lexer) quoted(quote byte) (token, error) {
	start := l.pos
	var value strings.Builder
	for l.pos++; l.pos < len(l.src); l.pos++ {
		c := l.src[l.pos]
		if c == quote {
			l.pos++
			return l.token(start, govaluate.STRING, value.String()), nil
		}
		if c == '\\' {
			l.pos++
			if l.pos == len(l.src) {
				break
			}
			if c = l.src[l.pos]; c != '\\' && c != '\'' && c != '"' {
				return token{}, l.failure(l.pos-1, `in quotes, \ can only stand before \, ' or "; write \\ for a backslash`)
			}
		}
		value.WriteByte(c)
	}
	return token{}, l.failure(start, "the quote %c has no closing %c", quote, quote)
}

// symbols by length: the longer ones come first.
var symbols = []struct {
	text string
	kind govaluate.TokenKind
}{
	{"&&", govaluate.LOGICALOP}, {"||", govaluate.LOGICALOP},
	{"==", govaluate.COMPARATOR}, {"!=", govaluate.COMPARATOR}, {"<=", govaluate.COMPARATOR}, {">=", govaluate.COMPARATOR},
	{"<", govaluate.COMPARATOR}, {">", govaluate.COMPARATOR},
	{"!", govaluate.PREFIX}, {"(", govaluate.CLAUSE}, {")", govaluate.CLAUSE_CLOSE},
}

var hints = map[rune]string{
	'&': "write && for and",
	'|': "write || for or",
	'=': "write == to compare",
	'[': `write order.data.items.0 for an element, and order.data["a.b"] for a name that has other characters`,
	'.': "a path begins with the name of an input, for example order.data.amount",
}

func (l *lexer) symbol() (token, error) {
	start := l.pos
	for _, s := range symbols {
		if strings.HasPrefix(l.src[start:], s.text) {
			l.pos += len(s.text)
			return l.token(start, s.kind, s.text), nil
		}
	}
	if strings.HasPrefix(l.src[start:], "=~") {
		return token{}, l.failure(start, "unexpected =~: there are no patterns; compare with == or !=")
	}
	r, _ := utf8.DecodeRuneInString(l.src[start:])
	hint, ok := hints[r]
	if !ok {
		hint = "a condition has names of inputs, &&, ||, !, parentheses, and comparisons of their fields with ==, !=, <, <=, > and >="
	}
	return token{}, l.failure(start, "unexpected %q: %s", r, hint)
}
