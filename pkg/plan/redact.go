package plan

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
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

var _ = []printer{
	Plan{}, Bus{}, NATSAccess{}, NATSStreaming{}, JetStream{}, KafkaAccess{}, KafkaBus{}, OAuth{}, Source{}, HTTP{}, HTTPAuth{}, Bearer{}, Basic{}, HMAC{}, Kafka{}, Redis{}, MQTT{}, Subscriber{}, Target{}, TLS{},
}

// Redacted returns a copy that holds no secrets: a password is "***" there.
func (p Plan) Redacted() *Plan { return redacted(&p) }

// String is JSON without secrets.
func (v Plan) String() string { return text(&v) }

// Format writes String.
func (v Plan) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v Bus) String() string { return text(&v) }

// Format writes String.
func (v Bus) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v NATSAccess) String() string { return text(&v) }

// Format writes String.
func (v NATSAccess) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v NATSStreaming) String() string { return text(&v) }

// Format writes String.
func (v NATSStreaming) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v JetStream) String() string { return text(&v) }

// Format writes String.
func (v JetStream) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v KafkaAccess) String() string { return text(&v) }

// Format writes String.
func (v KafkaAccess) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v KafkaBus) String() string { return text(&v) }

// Format writes String.
func (v KafkaBus) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v OAuth) String() string { return text(&v) }

// Format writes String.
func (v OAuth) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v Source) String() string { return text(&v) }

// Format writes String.
func (v Source) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v HTTP) String() string { return text(&v) }

// Format writes String.
func (v HTTP) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v HTTPAuth) String() string { return text(&v) }

// Format writes String.
func (v HTTPAuth) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v Bearer) String() string { return text(&v) }

// Format writes String.
func (v Bearer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v Basic) String() string { return text(&v) }

// Format writes String.
func (v Basic) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v HMAC) String() string { return text(&v) }

// Format writes String.
func (v HMAC) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v Kafka) String() string { return text(&v) }

// Format writes String.
func (v Kafka) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v Redis) String() string { return text(&v) }

// Format writes String.
func (v Redis) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v MQTT) String() string { return text(&v) }

// Format writes String.
func (v MQTT) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v Subscriber) String() string { return text(&v) }

// Format writes String.
func (v Subscriber) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v Target) String() string { return text(&v) }

// Format writes String.
func (v Target) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// String is JSON without secrets.
func (v TLS) String() string { return text(&v) }

// Format writes String.
func (v TLS) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

func text[T any](p *T) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(redacted(p)); err != nil { // no type of a plan can fail
		return err.Error()
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// redacted returns a copy of what p points at whose secrets are hidden.
func redacted[T any](p *T) *T {
	c := replace(reflect.ValueOf(*p), "", hideText).Interface().(T)
	return &c
}

// replace returns a copy of v with what text makes of its strings. Kind is that of v as a secret, if it is one.
func replace(v reflect.Value, kind string, text func(s, kind string) string) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Struct:
		c.Set(v) // the unexported fields of time.Time
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				kind, whole, _ := strings.Cut(f.Tag.Get("secret"), ",")
				if whole != "" && v.FieldByName(whole).Bool() {
					kind = "secret url"
				}
				c.Field(i).Set(replace(v.Field(i), kind, text))
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			c.Set(reflect.New(v.Type().Elem()))
			c.Elem().Set(replace(v.Elem(), kind, text))
		}
	case reflect.Slice:
		if !v.IsNil() {
			c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				c.Index(i).Set(replace(v.Index(i), kind, text))
			}
		}
	case reflect.String:
		c.SetString(text(v.String(), kind))
	default:
		c.Set(v)
	}
	return c
}

func hideText(s, kind string) string {
	switch {
	case (kind == "value" || kind == "secret url") && s != "":
		return hidden
	case kind == "url":
		return HideURL(s)
	}
	return s
}

// HideURL returns a URL, or several, well formed or not, as it may be shown: without a user and a password, and without a query, which
// often holds a token.
func HideURL(s string) string {
	return query.ReplaceAllString(userInfo.ReplaceAllString(s, "://"+hidden+"@"), "?"+hidden+"$1")
}

// userInfo is what may stand before the host in each of several URLs, well formed or not: user:password@ or token@. A query goes on until
// the next URL.
var (
	userInfo = regexp.MustCompile(`://[^/?#,\s]*@`)
	query    = regexp.MustCompile(`\?.*?(,\s*\w+://|$)`)
)
