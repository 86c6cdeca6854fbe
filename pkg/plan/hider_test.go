package plan_test

import (
	"strings"
	"testing"

	"github.com/openfunction/events/pkg/plan"
)

func TestHider(t *testing.T) {
	p := plan.Plan{
		Buses:   []plan.Bus{{Name: "bus", JetStream: &plan.JetStream{URL: "nats://t0ken-1@a:1,nats://u:t0ken-2@b:1", NATSAccess: plan.NATSAccess{Credentials: "line-1\nline-2\n"}}}},
		Sources: []plan.Source{{Redis: &plan.Redis{Password: `quo"ted & more`}}, {Kafka: &plan.Kafka{KafkaAccess: plan.KafkaAccess{Password: "a"}}}},
		Subscribers: []plan.Subscriber{
			{ID: "sub", Sink: &plan.Target{URL: "http://me:s%40crets@sink/in?k=qu%20ery,1&n=2"}},
			{Sink: &plan.Target{URL: "https://me:s%40crets-and-more@sink/in"}},
			{Sink: &plan.Target{URL: "https://only-user@sink/in"}},
			{Sink: &plan.Target{URL: "https://you:basic@eo12345.example.com:1/in/T0123%2045678/B45678901?x=345", Secret: true}},
			{Sink: &plan.Target{URL: "http://127.0.0.1/", Secret: true}},
			{Sink: &plan.Target{URL: "http://localhost/", Secret: true}},
			{Sink: &plan.Target{URL: "http://someone:pass-1@Chat-Hook/services/T0123/B4567/8s9k#fragm", Secret: true}},
			{Sink: &plan.Target{URL: "http://b\u00fccher.test/bot12345678:AAEh/send", Secret: true}},
		},
	}
	for in, want := range map[string]string{
		"a Bus and its subscriber sub, me and sink":                                       "a Bus and its subscriber sub, me and sink",
		"t0ken-1, t0ken-2, line-1, line-2":                                                "***, ***, ***, ***",
		`quo"ted & more`:                                                                  "***",
		`{"p": "quo\"ted \u0026 more"}`:                                                   `{"p": "***"}`,
		"quo%22ted+%26+more quo%22ted%20&%20more":                                         "*** ***",
		"s@crets s%40crets":                                                               "*** ***",
		"s@crets-and-more":                                                                "***",
		"Authorization: Basic bWU6c0BjcmV0cw==\r\nHost: x":                                "Authorization: Basic ***\r\nHost: x",
		"Authorization: Basic b25seS11c2VyOg==":                                           "Authorization: Basic ***",
		"POST /in?k=qu%20ery,1&n=2 HTTP/1.1, k is qu ery,1.":                              "POST /in?*** HTTP/1.1, k is ***.",
		"https://you:basic@eo12345.example.com:1/in/T0123%2045678/B45678901?x=345":        "***",
		"POST /in/T0123%2045678/B45678901?x=345 at eo12345.example.com, 127.0.0.1:80, in": "POST ***?*** at ***, 127.0.0.1:80, in",
		`no team T0123 45678, nor "B45678901" of basic`:                                   `no team ***, nor "***" of ***`,
		"lookup chat-hook, Chat-Hook, localhost":                                          "lookup ***, ***, localhost",
		"lookup xn--bcher-kva.test, b\u00fccher.test":                                     "lookup ***, ***",
		"someone, team T0123, B4567, 8s9k, fragm":                                         "***, team ***, ***, ***, ***",
		"bot12345678, AAEh or AAEh/send":                                                  "***, *** or ***/***",
		"Authorization: Basic eW91OmJhc2lj":                                               "Authorization: Basic ***",
	} {
		if got := plan.Hider(&p).Replace(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// Whatever a plan holds is hidden.
func TestHiderKnowsAllSecrets(t *testing.T) {
	p := withSecrets()
	if got := plan.Hider(&p).Replace(marshal(t, p)); strings.Contains(got, planted) {
		t.Errorf("it does not hide all: %s", got)
	}
}
