//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestE2ESynchronousCall runs the example of the documentation: the caller gets what the sink answers.
func TestE2ESynchronousCall(t *testing.T) {
	t.Parallel()
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Quote", "yes")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%s %s %s", r.URL.Path, r.Header.Get("ce-type"), body)
	}))
	defer sink.Close()
	p := run(t, "-f", "../../docs/examples/eventsource-direct.yaml", "--address", "127.0.0.1:9000="+sink.Listener.Addr().String())
	url := p.url + "/default/quotes/quote"
	response, err := client.Post(url, "text/plain", strings.NewReader("how much?"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(body), "/quote com.example.quote how much?"; response.StatusCode != http.StatusCreated || got != want || response.Header.Get("X-Quote") != "yes" {
		t.Errorf("the caller got %d %q with %v, want 201 %q with the sink's headers", response.StatusCode, got, response.Header, want)
	}
	sink.Close()
	if response, err = client.Post(url, "text/plain", strings.NewReader("and now?")); err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if again := response.Header.Get("Retry-After"); response.StatusCode != http.StatusServiceUnavailable || again != "1" {
		t.Errorf("without the sink the caller got %d with Retry-After %q, want 503 with 1", response.StatusCode, again)
	}
}
