package plan

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// hidden is what a secret looks like in print.
const hidden = "***"

// printer is what every part of a plan is that can hold a secret: it prints itself without, whatever the verb, and in logs too.
type printer interface {
	fmt.Stringer
	fmt.Formatter
}

var _ = []printer{Plan{}, Bus{}, NATSStreaming{}, JetStream{}, Source{}, Kafka{}, Subscriber{}, Target{}}

// String is the plan's JSON without its secrets.
func (p Plan) String() string { return text(p.Redacted()) }

// Redacted returns a copy that holds no secrets: a password is "***" there. What it refers to besides is shared with p.
func (p Plan) Redacted() *Plan {
	return &Plan{
		Buses:       each(p.Buses, Bus.redacted),
		Sources:     each(p.Sources, Source.redacted),
		Subscribers: each(p.Subscribers, Subscriber.redacted),
		Retired:     p.Retired,
	}
}

func (b Bus) redacted() Bus {
	b.NATSStreaming = redactPointer(b.NATSStreaming, NATSStreaming.redacted)
	b.JetStream = redactPointer(b.JetStream, JetStream.redacted)
	return b
}

func (n NATSStreaming) redacted() NATSStreaming {
	n.URL = redactURL(n.URL)
	return n
}

func (j JetStream) redacted() JetStream {
	j.URL, j.Password, j.Token = redactURL(j.URL), redact(j.Password), redact(j.Token)
	return j
}

func (s Source) redacted() Source {
	s.Sink = redactPointer(s.Sink, Target.redacted)
	s.DeadLetter = redactPointer(s.DeadLetter, Target.redacted)
	s.Kafka = redactPointer(s.Kafka, Kafka.redacted)
	return s
}

func (k Kafka) redacted() Kafka {
	k.Password = redact(k.Password)
	return k
}

func (s Subscriber) redacted() Subscriber {
	s.Sink = redactPointer(s.Sink, Target.redacted)
	s.DeadLetter = redactPointer(s.DeadLetter, Target.redacted)
	return s
}

func (t Target) redacted() Target {
	t.Name, t.URL = redactURL(t.Name), redactURL(t.URL)
	return t
}

// String is JSON without secrets.
func (b Bus) String() string { return text(b.redacted()) }

// String is JSON without secrets.
func (n NATSStreaming) String() string { return text(n.redacted()) }

// String is JSON without secrets.
func (j JetStream) String() string { return text(j.redacted()) }

// String is JSON without secrets.
func (s Source) String() string { return text(s.redacted()) }

// String is JSON without secrets.
func (k Kafka) String() string { return text(k.redacted()) }

// String is JSON without secrets.
func (s Subscriber) String() string { return text(s.redacted()) }

// String is JSON without secrets.
func (t Target) String() string { return text(t.redacted()) }

// Format writes String.
func (p Plan) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// Format writes String.
func (b Bus) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, b.String()) }

// Format writes String.
func (n NATSStreaming) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, n.String()) }

// Format writes String.
func (j JetStream) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, j.String()) }

// Format writes String.
func (s Source) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// Format writes String.
func (k Kafka) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// Format writes String.
func (s Subscriber) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// Format writes String.
func (t Target) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

func text(redacted any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(redacted); err != nil { // no type of a plan can fail
		return err.Error()
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func redact(s string) string {
	if s == "" {
		return ""
	}
	return hidden
}

// userInfo is what may stand before the host in each of several URLs, well formed or not: user:password@ or token@.
var userInfo = regexp.MustCompile(`://[^/?#,\s]*@`)

func redactURL(s string) string { return userInfo.ReplaceAllString(s, "://"+hidden+"@") }

func redactPointer[T any](p *T, redacted func(T) T) *T {
	if p == nil {
		return nil
	}
	r := redacted(*p)
	return &r
}

func each[T any](s []T, f func(T) T) []T {
	r := make([]T, len(s))
	for i := range s {
		r[i] = f(s[i])
	}
	return r
}
