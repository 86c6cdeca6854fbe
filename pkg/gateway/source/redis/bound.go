package redis

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

const (
	// maxString is the largest string in bytes that is read from a server: the client makes room for all of it before the first byte has
	// come. No bus takes one that is a quarter of it.
	maxString = 32 << 20
	// maxElements is the largest array, for the same reason, and maxLine the longest line in bytes.
	maxElements = 1 << 20
	maxLine     = 64 << 10
)

// oversizeError is the error of an answer that is not read.
type oversizeError struct {
	what string
	size int64
}

func (e *oversizeError) Error() string { return fmt.Sprintf("an answer with %s of %d", e.what, e.size) }

// strangerError is the error of what no server of Redis answers.
type strangerError struct{ answer []byte }

func (e *strangerError) Error() string { return "an answer that is not of Redis" }

// kinds are what the answers of both versions of the protocol begin with: the client speaks the newer one to Sentinels.
const kinds = "+-:$*_,#!=(%~>|"

// bound follows the answers of a server, and stops at what is too large or no answer.
type bound struct {
	head   []byte // of the line that has begun: enough to know what it announces
	length int    // of that line
	rest   int64  // bytes of a string that are to come
}

// pass returns how many bytes of b may be read, and why not all of them.
func (c *bound) pass(b []byte) (int, error) {
	for i := 0; i < len(b); {
		if c.rest > 0 {
			n := min(c.rest, int64(len(b)-i))
			c.rest, i = c.rest-n, i+int(n)
			continue
		}
		if b[i] == '\n' {
			if err := c.announced(); err != nil {
				return i, err
			}
			c.head, c.length, i = c.head[:0], 0, i+1
			continue
		}
		if c.length == 0 && !strings.ContainsRune(kinds, rune(b[i])) {
			return i, &strangerError{bytes.Clone(b[i:min(len(b), i+16)])}
		}
		if len(c.head) < 32 {
			c.head = append(c.head, b[i])
		}
		if c.length++; c.length > maxLine {
			return i, &oversizeError{"a line", int64(c.length)}
		}
		i++
	}
	return len(b), nil
}

// announced takes a line to its end: a string or an array may follow.
func (c *bound) announced() error {
	if len(c.head) == 0 {
		return nil
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(c.head[1:])), 10, 64)
	switch kind := c.head[0]; {
	case err != nil:
	case kind == '$' && n > maxString:
		return &oversizeError{"a string", n}
	case kind == '*' && n > maxElements:
		return &oversizeError{"a list", n}
	case kind == '$' && n >= 0:
		c.rest = n + 2 // and the end of the line
	}
	return nil
}
