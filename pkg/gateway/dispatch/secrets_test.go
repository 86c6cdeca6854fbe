package dispatch

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/test/servers"
)

const planted = "pl4nted"

// echo repeats its request, and what else it knows.
func echo(w http.ResponseWriter, r *http.Request) {
	dump, _ := httputil.DumpRequest(r, true)
	user, password, _ := r.BasicAuth()
	w.WriteHeader(http.StatusBadRequest)
	_, _ = fmt.Fprintf(w, "%s says %s:%s, and the brokers want %[3]s-kafka\n%s", r.URL, user, password, dump)
}

// TestNothingIsShownOfAURLThatIsASecret has a sink that repeats what it was asked.
func TestNothingIsShownOfAURLThatIsASecret(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(echo))
	defer server.Close()
	c := NewClient(nil)
	defer c.Close()
	target := plan.Target{Name: "sink of Secret default/s, key url", Secret: true, URL: server.URL + "/T0123456/" + planted + "-part?key=" + planted + "-key"}
	s, err := c.Sink(target)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, maxPooled + 1} {
		e := newEvent(t, "text/plain", make([]byte, size))
		err := s.Handle(t.Context(), e)
		if err == nil {
			t.Fatal("Handle() = nil")
		}
		letter := Letter(e, target.Address(), err)
		shown, _ := base64.StdEncoding.DecodeString(letter.Extensions()[event.ErrorDataExtension].(string))
		if want := "***?*** says :, and the brokers want -kafka\nPOST ***?*** HTTP/1.1"; !strings.Contains(string(shown), want) {
			t.Errorf("the letter says %s, want %s", shown, want)
		}
		if got := letter.Extensions()[event.ErrorDestExtension]; got != target.Name {
			t.Errorf("the letter is of %v, want %s", got, target.Name)
		}
		if text := err.Error() + string(shown); strings.Contains(text, planted) || strings.Contains(text, "T0123456") || !strings.HasPrefix(text, "post a URL that is in a Secret: status 400") {
			t.Errorf("it says %s", text)
		}
	}
}

// TestNoErrorShowsASecret has sinks that repeat what they were asked, and what a broker's password is.
func TestNoErrorShowsASecret(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(echo))
	defer plain.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(echo))
	defer secure.Close()
	longer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, password, _ := r.BasicAuth()
		_, _ = io.WriteString(w, strings.Repeat("x", maxErrorBody-len(planted)/2)+password)
	}))
	defer longer.Close()
	raw := servers.NewStranger(t, "127.0.0.1:0", func(c net.Conn) { _, _ = io.Copy(c, c) }).Addr()
	for _, tt := range []struct {
		name, scheme, address, want string
		data                        []byte
	}{
		{"small events", "http", plain.Listener.Addr().String(), "/in?*** says me:***, and the brokers want ***", nil},
		{"large events", "http", plain.Listener.Addr().String(), "/in?*** says me:***, and the brokers want ***", make([]byte, maxPooled+1)},
		{"TLS", "https", secure.Listener.Addr().String(), "/in?*** says me:***, and the brokers want ***", nil},
		{"a password at the end of what is shown", "http", longer.Listener.Addr().String(), "x***", nil},
		{"what is not HTTP", "http", raw, `malformed HTTP status code "/in?***"`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewClient(nil)
			defer c.Close()
			c.Hide(&plan.Plan{Buses: []plan.Bus{{Kafka: &plan.KafkaBus{KafkaAccess: plan.KafkaAccess{Password: planted + "-kafka"}}}}})
			s, err := c.Sink(plan.Target{URL: tt.scheme + "://me:" + planted + "@" + tt.address + "/in?key=" + planted})
			if err != nil {
				t.Fatal(err)
			}
			if tt.scheme == "https" {
				s.transport = secure.Client().Transport.(*http.Transport)
			}
			e := newEvent(t, "text/plain", tt.data)
			err = s.Handle(t.Context(), e)
			if err == nil {
				t.Fatal("Handle() = nil")
			}
			shown, _ := base64.StdEncoding.DecodeString(Letter(e, s.name, err).Extensions()[event.ErrorDataExtension].(string))
			if !strings.Contains(string(shown), tt.want) {
				t.Errorf("the letter says %s, want %s", shown, tt.want)
			}
			authorization := base64.StdEncoding.EncodeToString([]byte("me:" + planted))
			for where, text := range map[string]string{"error": err.Error(), "letter": string(shown)} {
				if strings.Contains(text, planted[:len(planted)/2]) || strings.Contains(text, authorization) {
					t.Errorf("the %s shows it: %s", where, text)
				}
				if strings.ContainsAny(text, "\r\n") && where == "error" || len(text) > maxErrorBody {
					t.Errorf("the %s is no line: %s", where, text)
				}
			}
		})
	}
}
