package workload

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// asked is a gateway that answers with what h says, and how often it was asked.
func asked(t *testing.T, h http.HandlerFunc) (*Reports, *corev1.Pod, *atomic.Int32) {
	t.Helper()
	w := newWorld(t)
	n := &atomic.Int32{}
	ip := w.serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n.Add(1)
		h(rw, r)
	}))
	return w.clients.Reports, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "1"}, Status: corev1.PodStatus{PodIP: ip}}, n
}

func TestReportsAreFreshFor200Milliseconds(t *testing.T) {
	r, pod, n := asked(t, func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, `{"error": "e", "new": "field"}`) })
	now := time.Unix(0, 0)
	r.now = func() time.Time { return now }
	for _, tt := range []struct {
		at   time.Duration
		want int32
	}{{0, 1}, {199, 1}, {200, 2}, {399, 2}, {400, 3}} {
		now = time.Unix(0, 0).Add(tt.at * time.Millisecond)
		if a := r.of(t.Context(), pod); a.err != nil || a.report.Error != "e" {
			t.Fatalf("report = %+v, %v", a.report, a.err)
		}
		if got := n.Load(); got != tt.want {
			t.Errorf("after %d ms it was asked %d times, want %d", tt.at, got, tt.want)
		}
	}
	other := pod.DeepCopy()
	other.UID = "2"
	now = now.Add(time.Hour)
	if a := r.of(t.Context(), other); a.err != nil || n.Load() != 4 {
		t.Errorf("another pod shares the answer (%v)", a.err)
	}
	if got := len(r.answers); got != 1 {
		t.Errorf("%d answers are remembered, want the latest only", got)
	}
}

func TestReportsArePatientWithAGatewayThatHasAnswered(t *testing.T) {
	var fails atomic.Bool
	r, pod, _ := asked(t, func(rw http.ResponseWriter, _ *http.Request) {
		if fails.Load() {
			rw.WriteHeader(http.StatusTeapot)
			return
		}
		fmt.Fprint(rw, `{"error": "e"}`)
	})
	now := time.Unix(0, 0)
	r.now = func() time.Time { return now }
	const answers, late, silent = "answers", "late", "silent"
	for _, tt := range []struct {
		after time.Duration
		fails bool
		want  string
	}{
		{0, true, silent}, // without an answer before there is nothing to be patient for
		{time.Second, false, answers},
		{time.Minute, true, late},
		{patience - time.Second, true, late},
		{time.Second, true, silent},
		{time.Second, true, silent},
		{time.Second, false, answers},
		{time.Second, true, late},
		{patience / 2, false, answers},
		{patience - time.Second, true, late},
		{patience - time.Second, true, late},
	} {
		now = now.Add(tt.after)
		fails.Store(tt.fails)
		a, got := r.of(t.Context(), pod), answers
		switch {
		case a.err != nil && a.report == nil:
			got = silent
		case a.late():
			got = late
		}
		if got != tt.want || got != silent && (a.err != nil || a.report.Error != "e") {
			t.Errorf("after %s it is %s (%+v), want %s", now.Sub(time.Unix(0, 0)), got, a, tt.want)
		}
	}
}

func TestReportsAskOnceAtATime(t *testing.T) {
	release := make(chan struct{})
	r, pod, n := asked(t, func(rw http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprint(rw, `{}`)
	})
	first, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 10 {
		ctx := t.Context()
		if i == 0 {
			ctx = first
		}
		all.Go(func() {
			if a := r.of(ctx, pod); a.err != nil {
				t.Errorf("it is not answered: %v", a.err)
			}
		})
	}
	cancel() // which is nothing to the others
	close(release)
	all.Wait()
	if got := n.Load(); got != 1 {
		t.Errorf("it was asked %d times, want once", got)
	}
}

func TestReportsRefuse(t *testing.T) {
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"no JSON", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "hello") }, "invalid character"},
		{"another status", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusTeapot) }, "418"},
		{"a redirect", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "http://elsewhere", http.StatusFound)
		}, "302"},
		{"too much", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, strings.Repeat(" ", maxReport+1)) }, "larger than"},
		{"silence", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, // which is what a network policy makes of a question
			"deadline exceeded; where its namespace has network policies, they have to let pods of the namespace " + systemNamespace + " connect to port PORT"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, pod, _ := asked(t, tt.answer)
			tt.want = strings.ReplaceAll(tt.want, "PORT", strconv.Itoa(r.Port))
			if a := r.of(t.Context(), pod); a.report != nil || a.err == nil || !strings.Contains(a.err.Error(), tt.want) {
				t.Errorf("report = %v, %v, want nil, %s", a.report, a.err, tt.want)
			}
		})
	}
}

// A status that holds an error must not change because the same happened again.
func TestReportsFailAlike(t *testing.T) {
	r, pod, _ := asked(t, func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler) // closes the connection
	})
	reset := func(rw http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
	resetting, resettingPod, _ := asked(t, reset)
	for _, tt := range []struct {
		reports *Reports
		pod     *corev1.Pod
	}{{r, pod}, {resetting, resettingPod}} {
		seen := map[string]bool{}
		for range 5 {
			_, err := tt.reports.ask(t.Context(), tt.pod.Status.PodIP)
			if err == nil {
				t.Fatal("there is no error")
			}
			seen[err.Error()] = true
		}
		if len(seen) > 1 {
			t.Errorf("the same failure reads differently each time: %v", seen)
		}
	}
}

func TestReportsUseNoProxy(t *testing.T) {
	if r := NewReports(); r.client.Transport.(*http.Transport).Proxy != nil || r.Port != 8081 {
		t.Error("pods are asked through a proxy, or on another port than theirs")
	}
}
