package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openfunction/events/pkg/event"
)

const (
	shownFailures = 10
	shownBody     = 1024
)

// sender sends events and remembers how that went.
type sender struct {
	sendOptions
	payload   []byte
	mediaType string
	stderr    io.Writer

	mu     sync.Mutex
	took   []time.Duration
	failed int
}

// send returns when all events were answered or ctx is done.
func (s *sender) send(ctx context.Context) {
	client := &http.Client{
		Timeout:   s.timeout,
		Transport: &http.Transport{MaxIdleConnsPerHost: s.concurrency, Proxy: http.ProxyFromEnvironment},
		// A redirect would turn the POST into a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	turns := make(chan int)
	var workers sync.WaitGroup
	for range min(s.concurrency, s.count) {
		workers.Go(func() {
			for n := range turns {
				s.one(ctx, client, n)
			}
		})
	}
	s.pace(ctx, turns)
	close(turns)
	workers.Wait()
}

// pace hands out the numbers of the events, not faster than the rate.
func (s *sender) pace(ctx context.Context, turns chan<- int) {
	start := time.Now()
	for n := 1; n <= s.count; n++ {
		if s.rate > 0 {
			after := min(float64(n-1)/s.rate*float64(time.Second), math.MaxInt64/2)
			due := start.Add(time.Duration(after))
			select {
			case <-time.After(time.Until(due)):
			case <-ctx.Done():
				return
			}
		}
		select {
		case turns <- n:
		case <-ctx.Done():
			return
		}
	}
}

func (s *sender) one(ctx context.Context, client *http.Client, n int) {
	e, err := s.event(n, s.payload, s.mediaType)
	if err == nil {
		start := time.Now()
		if err = s.post(ctx, client, e); err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.took = append(s.took, time.Since(start))
			return
		}
		err = fmt.Errorf("send %s: %w", event.Short(e.ID()), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed++
	if s.failed <= shownFailures {
		fmt.Fprintln(s.stderr, err)
	}
	if s.failed == shownFailures+1 {
		fmt.Fprintln(s.stderr, "more failures are not shown")
	}
}

func (s *sender) post(ctx context.Context, client *http.Client, e *event.Event) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.to, bytes.NewReader(e.DataEncoded))
	if err != nil {
		return err
	}
	event.EachAttribute(e, func(name, value string) {
		r.Header.Set("ce-"+name, event.EscapeHeader(value))
	})
	if s.mediaType != "" {
		r.Header.Set("Content-Type", s.mediaType)
	}
	for _, h := range s.header {
		name, value := field(h)
		if strings.EqualFold(name, "host") { // which the client takes from elsewhere
			r.Host = value
		}
		r.Header.Set(name, value)
	}
	response, err := client.Do(r)
	if late, ok := errors.AsType[*url.Error](err); ok && late.Timeout() && ctx.Err() == nil {
		return fmt.Errorf("post %s: no answer within %s (--timeout)", late.URL, s.timeout)
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, shownBody))
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("answered %s: %s", response.Status, bytes.TrimSpace(body))
	}
	// A connection is used again only once its body was read.
	_, _ = io.Copy(io.Discard, response.Body)
	return nil
}

// summary prints the result and returns the exit code.
func (s *sender) summary(stdout io.Writer) int {
	slices.Sort(s.took)
	fmt.Fprintf(stdout, "sent %d, failed %d", len(s.took), s.failed)
	if left := s.count - len(s.took) - s.failed; left > 0 {
		fmt.Fprintf(stdout, ", not sent %d", left)
	}
	if len(s.took) > 0 {
		fmt.Fprintf(stdout, ", p50 %s, p99 %s", percentile(s.took, 50), percentile(s.took, 99))
	}
	fmt.Fprintln(stdout)
	if len(s.took) < s.count {
		return 1
	}
	return 0
}

// percentile returns the smallest value that p percent of the sorted values do not exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[(len(sorted)*p+99)/100-1].Round(10 * time.Microsecond)
}
