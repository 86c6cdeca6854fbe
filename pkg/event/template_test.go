package event

import (
	"errors"
	"fmt"
	"net/textproto"
	"strings"
	"testing"
)

// webhook is a request with an answer to everything that the templates of these tests ask for.
func webhook(body string) *Posted {
	header := textproto.MIMEHeader{"X-Github-Event": {"push", "second"}, "X-Github-Delivery": {"72d3162e"}, "Bell": {"\a"}, "Latin": {"\xe9"}, "Long": {strings.Repeat("a", 1020)}}
	query := map[string]string{"name": "Zoë", "a b": "spaced"}
	return &Posted{Header: header.Get, Query: func(name string) string { return query[name] }, Body: []byte(body)}
}

func TestTemplates(t *testing.T) {
	const body = `{"id":"evt_1","type":"invoice.paid","big":12345678901234567890,"price":1.50,"live":false,"none":null,
		"repository":{"full_name":"a/b","topics":["x",{"name":"y"}]},"empty":""}`
	tests := []struct {
		name, template, body string
		want                 string
		part                 bool // something was missing
		refused              string
	}{
		{name: "text alone", template: "com.example", want: "com.example"},
		{name: "nothing"},
		{name: "dollars and braces that are text", template: "$5 {a} $ $a}", want: "$5 {a} $ $a}"},
		{name: "a GitHub type", template: "com.github.${header.X-GitHub-Event}", want: "com.github.push"},
		{name: "a GitHub id", template: "${header.x-github-delivery}", want: "72d3162e"},
		{name: "a Stripe type", template: "com.stripe.${data.type}", want: "com.stripe.invoice.paid"},
		{name: "a query", template: "${query.name}/${query.a b}", want: "Zoë/spaced"},
		{name: "text around and between", template: "<${data.id}-${data.type}>", want: "<evt_1-invoice.paid>"},
		{name: "side by side", template: "${data.id}${data.id}", want: "evt_1evt_1"},
		{name: "a path", template: "${data.repository.full_name}", want: "a/b"},
		{name: "a path through lists", template: "${data.repository.topics.0} ${data.repository.topics.1.name}", want: "x y"},
		{name: "numbers as they are written", template: "${data.big} ${data.price}", want: "12345678901234567890 1.50"},
		{name: "a boolean", template: "${data.live}", want: "false"},
		{name: "a header that is not there", template: "a${header.X-Other}", want: "a", part: true},
		{name: "a query that is not there", template: "${query.other}", part: true},
		{name: "data that is not there", template: "${data.other.x}", part: true},
		{name: "data that goes on behind a text", template: "${data.id.x}", part: true},
		{name: "a list's end", template: "${data.repository.topics.2}", part: true},
		{name: "a list by name", template: "${data.repository.topics.-1}", part: true},
		{name: "null", template: "${data.none}", part: true},
		{name: "an object", template: "${data.repository}", part: true},
		{name: "an empty text", template: "${data.empty}", part: true},
		{name: "one of two that is there", template: "${data.id}-${data.other}", want: "evt_1-", part: true},
		{name: "a body that is no JSON", template: "${data.id}", body: "id=1", part: true},
		{name: "a body that is JSON twice", template: "${data.id}", body: `{"id":1}{}`, part: true},
		{name: "no body", template: "${data.id}", body: " ", part: true},
		{name: "a control character", template: "${header.Bell}", refused: "${header.Bell} has a character"},
		{name: "bytes that are no UTF-8", template: "${header.Latin}", refused: "in UTF-8"},
		{name: "a control character of the data", template: "${data.id}", body: `{"id":"a\nb"}`, refused: "printable"},
		{name: "what is no character", template: "${data.id}", body: `{"id":"\uffff"}`, refused: "printable"},
		{name: "the replacement character is one", template: "${data.id}", body: `{"id":"\ufffd"}`, want: "\ufffd"},
		{name: "just as long as is allowed", template: "1234${header.Long}", want: "1234" + strings.Repeat("a", 1020)},
		{name: "longer", template: "12345${header.Long}", refused: "longer than the 1024 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			template, err := ParseTemplate(tt.template)
			if err != nil {
				t.Fatal(err)
			}
			if tt.body == "" {
				tt.body = body
			}
			got, whole, err := template.Expand(webhook(tt.body))
			if tt.refused != "" {
				if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("Expand() = %v, want an error that says %q", err, tt.refused)
				}
				return
			}
			if got != tt.want || whole == tt.part || err != nil {
				t.Errorf("Expand() = %q, %t, %v, want %q, %t", got, whole, err, tt.want, !tt.part)
			}
		})
	}
}

func TestTemplatesThatAreNone(t *testing.T) {
	tests := []struct{ template, want string }{
		{"${type}", "column 1: ${type} is not known: use ${header.NAME}, ${query.NAME} or ${data.PATH}"},
		{"é ${body.x}", "column 3: ${body.x} is not known: use ${header.NAME}, ${query.NAME} or ${data.PATH}"},
		{"${}", "column 1: ${} is not known: use ${header.NAME}, ${query.NAME} or ${data.PATH}"},
		{"a ${data.id", "column 3: ${ is not closed: write } after the name"},
		{"${data.id}${", "column 11: ${ is not closed: write } after the name"},
		{"${header.}", `column 1: ${header.}: "" is not the name of a header: write one, for example ${header.X-GitHub-Event}`},
		{"${header}", `column 1: ${header}: "" is not the name of a header: write one, for example ${header.X-GitHub-Event}`},
		{"${header.a b}", `column 1: ${header.a b}: "a b" is not the name of a header: write one, for example ${header.X-GitHub-Event}`},
		{"${header.authorization}", "column 1: ${header.authorization}: this header holds a secret, which events must not carry: use another"},
		{"${header.COOKIE}", "column 1: ${header.COOKIE}: this header holds a secret, which events must not carry: use another"},
		{"${query}", "column 1: ${query}: the name of a query parameter is missing: write one, for example ${query.name}"},
		{"${data}", "column 1: ${data}: the path into the data has an empty name: write one, for example ${data.repository.full_name}"},
		{"${data.a..b}", "column 1: ${data.a..b}: the path into the data has an empty name: write one, for example ${data.repository.full_name}"},
		{"a\tb", "column 2: a character that no attribute may have: use printable ones, in UTF-8"},
		{"a\xff", "column 2: a character that no attribute may have: use printable ones, in UTF-8"},
		{strings.Repeat("a", 1025), "it has 1025 bytes: at most 1024 are allowed"},
	}
	for _, tt := range tests {
		if _, err := ParseTemplate(tt.template); err == nil || err.Error() != tt.want {
			t.Errorf("ParseTemplate(%.40q) = %v, want %q", tt.template, err, tt.want)
		}
	}
}

func TestATextAloneCostsNothing(t *testing.T) {
	template, err := ParseTemplate("com.example")
	if err != nil {
		t.Fatal(err)
	}
	if !template.IsText() {
		t.Error("IsText() = false, want true")
	}
	p := webhook("")
	if got := testing.AllocsPerRun(100, func() { _, _, _ = template.Expand(p) }); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

func ExampleTemplate() {
	template, err := ParseTemplate("com.stripe.${data.type}")
	if err != nil {
		panic(err)
	}
	value, _, err := template.Expand(&Posted{Body: []byte(`{"type":"invoice.paid"}`)})
	fmt.Println(value, err)
	// Output: com.stripe.invoice.paid <nil>
}
