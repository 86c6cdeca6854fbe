package metrics

import (
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
)

// A request may still be inside when its EventSource goes, and is answered then.
func TestWhoIsGoneIsNotCounted(t *testing.T) {
	m := New(func() map[string]bool { return nil })
	s := m.Source("EventSource default/es", "http", "a")
	other := m.Source("EventSource default/other", "http", "a")
	s.Answered(200)
	m.Keep(maps.Keys(map[string]bool{"EventSource default/other": true}))
	for _, code := range []int{200, 202, 503} {
		s.Answered(code)
		other.Answered(code)
	}
	response := httptest.NewRecorder()
	m.Handler().ServeHTTP(response, httptest.NewRequest("GET", "/metrics", nil))
	text := response.Body.String()
	if strings.Contains(text, `name="es"`) {
		t.Errorf("series of who is gone:\n%s", text)
	}
	for _, code := range []string{"200", "202", "503"} {
		if want := `openfunction_http_responses_total{code="` + code + `",event="a",kind="EventSource",name="other",namespace="default"} 1`; !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}
