package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/system"

	"github.com/openfunction/events/pkg/plan"
)

const (
	// askTime is how long a gateway may take to answer.
	askTime = time.Second
	// fresh is how long an answer holds: one pod is asked on behalf of many objects.
	fresh = 200 * time.Millisecond
	// patience is how long a gateway may give no answer until what it said before does not count any more: it, the controller or a network
	// may be slow for a moment, which is nothing to tell of hundreds of objects.
	patience = 20 * time.Second
	// forget is how long an answer is kept: longer than those that are ready are not asked.
	forget = 5 * time.Minute
	// maxReport bounds the bytes of a report.
	maxReport = 4 << 20
)

var errNoAddress = errors.New("it has no address")

// Reports asks gateways what they run. It is safe for concurrent use.
type Reports struct {
	// Port is where gateways answer. It is not to be changed once the first was asked.
	Port int

	client *http.Client
	now    func() time.Time
	flight singleflight.Group

	mu      sync.Mutex
	answers map[string]answer
}

type answer struct {
	at     time.Time
	report *plan.Report
	err    error
	// silent is since when there is no other answer than the report of before; zero means that the report is what was said just now.
	silent time.Time
}

// late tells whether the report is not of now.
func (a *answer) late() bool { return !a.silent.IsZero() }

// NewReports asks on the port that gateways in a cluster have.
func NewReports() *Reports {
	return &Reports{
		Port:    adminPort,
		now:     time.Now,
		answers: map[string]answer{},
		client: &http.Client{
			// A connection for each question: pods come and go. No proxy: it is a pod of this cluster.
			Transport: &http.Transport{DisableKeepAlives: true},
			// A pod must not send the controller elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// of returns what the gateway in pod says, or said just now; without an answer what it said before, for as long as patience allows. It
// blocks for a second at most. The report is not to be changed.
func (r *Reports) of(ctx context.Context, pod *corev1.Pod) answer {
	if pod.Status.PodIP == "" {
		return answer{err: errNoAddress}
	}
	key := string(pod.UID) + "/" + pod.Status.PodIP
	if a, ok := r.recent(key); ok {
		return a
	}
	// Whoever comes meanwhile shares the answer, so it must not fail because of the first one's context.
	v, _, _ := r.flight.Do(key, func() (any, error) {
		report, err := r.ask(context.WithoutCancel(ctx), pod.Status.PodIP)
		return r.remember(key, answer{at: r.now(), report: report, err: err}), nil
	})
	return v.(answer)
}

func (r *Reports) recent(key string) (answer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.answers[key]
	return a, ok && r.now().Sub(a.at) < fresh
}

// remember keeps a, or what takes its place if it is an error, and forgets what is too old to be used.
func (r *Reports) remember(key string, a answer) answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.answers[key]; ok && last.err == nil && a.err != nil {
		if !last.late() {
			last.silent = a.at
		}
		if a.at.Sub(last.silent) < patience {
			last.at = a.at
			a = last
		}
	}
	maps.DeleteFunc(r.answers, func(_ string, old answer) bool { return a.at.Sub(old.at) >= forget })
	r.answers[key] = a
	return a
}

func (r *Reports) ask(ctx context.Context, ip string) (*plan.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	url := "http://" + net.JoinHostPort(ip, strconv.Itoa(r.Port)) + plan.ReportPath
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s; where its namespace has network policies, they have to let pods of the namespace %s connect to port %d",
			steady(err.Error()), system.Namespace(), r.Port)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s", url, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReport+1))
	if err != nil {
		return nil, fmt.Errorf("get %s: %s", url, steady(err.Error()))
	}
	if len(body) > maxReport {
		return nil, fmt.Errorf("get %s: larger than %d bytes", url, maxReport)
	}
	report := &plan.Report{} // of a gateway that may be newer: what this version does not know is no error
	if err := json.Unmarshal(body, report); err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	report.Error = steady(report.Error)
	for name, o := range report.Objects {
		o.Losing = steady(o.Losing)
		report.Objects[name] = o
		for _, sentences := range [][]string{o.Problems, o.Failing} {
			for i, sentence := range sentences {
				sentences[i] = steady(sentence)
			}
		}
	}
	return report, nil
}

var from = regexp.MustCompile(`\S+:\d+->`)

// steady removes from what somebody says of a connection the port that it began at: that is another one each time, and a status that
// holds it would be written each time.
func steady(text string) string { return from.ReplaceAllString(text, "") }
