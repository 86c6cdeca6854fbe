package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"testing"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"

	"github.com/openfunction/events/pkg/plan"
)

// show is how a caller signs, or says who it is, with a secret.
type show func(secret, body string) (header, value string)

func bearer(secret, _ string) (string, string) { return "Authorization", "Bearer " + secret }

func basic(secret, _ string) (string, string) {
	return "Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:"+secret))
}

func mac(secret, text string) string {
	h := hmac.New(sha256.New, []byte(secret))
	_, _ = h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}

func github(secret, body string) (string, string) {
	return "X-Hub-Signature-256", "sha256=" + mac(secret, body)
}

func stripe(secret, body string) (string, string) {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	return "Stripe-Signature", "t=" + now + ",v1=" + mac(secret, now+"."+body)
}

// upload begins to post an event, and returns once the route that takes it waits for its body. What it returns sends the body and returns
// the answer.
func (r *running) upload(t *testing.T, id, secret string, show show) (finish func() string) {
	t.Helper()
	const content = `{}`
	body, send := io.Pipe()
	inside := make(chan struct{})
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(inside) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.Addr()+"/default/es/a", body)
	if err != nil {
		t.Fatal(err)
	}
	header, value := show(secret, content)
	for k, v := range map[string]string{
		"ce-specversion": "1.0", "ce-id": id, "ce-source": "/test", "ce-type": "test", "content-type": "application/json", "Expect": "100-continue", header: value,
	} {
		req.Header.Set(k, v)
	}
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: patience, DisableKeepAlives: true}}
	answer := make(chan string, 1)
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		says, _ := io.ReadAll(resp.Body)
		answer <- strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", string(says)))
	}()
	select {
	case <-inside:
	case says := <-answer: // it is not let in
		return func() string { return says }
	case <-time.After(patience):
		t.Fatal("the body is not asked for")
	}
	return func() string {
		_, _ = io.WriteString(send, content)
		_ = send.Close()
		return <-answer
	}
}

// TestSecretsOfHTTPEventsRotate has a request under way at each change: it ends as it began.
func TestSecretsOfHTTPEventsRotate(t *testing.T) {
	for _, tt := range []struct {
		name string
		auth func(secrets ...string) *plan.HTTPAuth
		show show
	}{
		{"bearer", func(s ...string) *plan.HTTPAuth { return &plan.HTTPAuth{Bearer: &plan.Bearer{Tokens: s}} }, bearer},
		{"basic", func(s ...string) *plan.HTTPAuth {
			return &plan.HTTPAuth{Basic: &plan.Basic{Username: "ann", Passwords: s}}
		}, basic},
		{"github", func(s ...string) *plan.HTTPAuth {
			return &plan.HTTPAuth{HMAC: &plan.HMAC{Scheme: "github", Secrets: s}}
		}, github},
		{"stripe", func(s ...string) *plan.HTTPAuth {
			return &plan.HTTPAuth{HMAC: &plan.HMAC{Scheme: "stripe", Secrets: s}}
		}, stripe},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, "")
			with := func(secrets ...string) *plan.Plan {
				p := onePath(plan.Subscriber{Condition: "a", Sink: display("each")})
				p.Sources[0].HTTP.Auth = tt.auth(secrets...)
				return p
			}
			wants := func(id, secret, want string) {
				t.Helper()
				if got := r.upload(t, id, secret, tt.show)(); !strings.HasPrefix(got, want) {
					t.Errorf("event %s: %s, want %s", id, got, want)
				}
			}
			r.apply(t, with("old"))
			wants("1", "old", "202")
			wants("2", "new", "401")
			began := r.upload(t, "3", "old", tt.show)
			r.apply(t, with("old", "new"))
			wants("4", "old", "202")
			wants("5", "new", "202")
			both := r.upload(t, "6", "old", tt.show)
			r.apply(t, with("new"))
			wants("7", "old", "401")
			wants("8", "new", "202")
			for id, finish := range map[string]func() string{"3": began, "6": both} {
				if got := finish(); !strings.HasPrefix(got, "202") {
					t.Errorf("event %s, which was under way: %s, want 202", id, got)
				}
			}
			for _, id := range []string{"1", "3", "4", "5", "6", "8"} {
				r.wants(t, "default/t -> sink default/each: "+id)
			}
		})
	}
}

// TestNobodyIsRefusedForAnotherPasswordOfTheBus has a request under way while a plan has the bus show another password, and one that comes before the
// bus is connected.
func TestNobodyIsRefusedForAnotherPasswordOfTheBus(t *testing.T) {
	s, err := nats.NewServer(&nats.Options{
		Host: "127.0.0.1", Port: nats.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		Users: []*nats.User{{Username: "before", Password: "p"}, {Username: "after", Password: "p"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	hold := make(chan struct{}, 1) // with something in it, connections may be made
	hold <- struct{}{}
	r := startWith(t, func(o *Options) {
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			select {
			case v := <-hold:
				hold <- v
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	})
	with := func(user string) *plan.Plan {
		p := onePath(plan.Subscriber{Condition: "a", Sink: display("each")})
		p.Buses[0] = plan.Bus{Name: "bus", JetStream: &plan.JetStream{
			URL: s.ClientURL(), AckWait: 2 * time.Second, NATSAccess: plan.NATSAccess{Username: user, Password: "p"},
		}}
		return p
	}
	r.apply(t, with("before"))
	nobody := func(_, _ string) (string, string) { return "X-Nobody", "" }
	for n := range 5 { // an attempt in which the machine stalls for longer than anybody waits does not count
		began := r.upload(t, fmt.Sprint("began before ", n), "", nobody)
		v := <-hold
		if err := r.Apply(with([]string{"after", "before"}[n%2])); err != nil {
			t.Fatal(err)
		}
		early := r.upload(t, fmt.Sprint("comes early ", n), "", nobody)
		answers := make(chan string, 2)
		for _, finish := range []func() string{began, early} {
			go func() { answers <- finish() }()
		}
		select {
		case got := <-answers:
			answers <- got
		case <-time.After(200 * time.Millisecond):
		}
		hold <- v
		got := []string{<-answers, <-answers}
		if strings.HasPrefix(got[0], "202") && strings.HasPrefix(got[1], "202") {
			r.wants(t, fmt.Sprint("default/t -> sink default/each: began before ", n))
			r.wants(t, fmt.Sprint("default/t -> sink default/each: comes early ", n))
			return
		}
		t.Logf("the answers are %q", got)
		eventually(t, "ready", r.Ready)
	}
	t.Error("somebody is refused each time")
}
