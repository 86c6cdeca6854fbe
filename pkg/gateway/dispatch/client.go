// Package dispatch delivers events: one attempt over HTTP, and retries, dead letters and fan-out as handlers around an attempt.
package dispatch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"github.com/openfunction/events/pkg/event"
	"github.com/openfunction/events/pkg/plan"
)

const (
	// maxDrain is how much of a response is read so that its connection can be used again; what is longer costs the connection.
	maxDrain = 64 << 10
	// drainTime bounds how long that may take: the answer is known already.
	drainTime = 250 * time.Millisecond
	// maxAnswer is how much of an error's body is read: more than is shown, or half of a secret could be.
	maxAnswer = 8 << 10
	// maxErrorBody is how much of an error's body a dead letter carries: 768 bytes are Knative's 1024 characters of base64.
	maxErrorBody = 768
	// maxPooled is how long the data of an event may be that goes over a connection of the pool. A sink may refuse what is longer before it
	// has read it, and http.Transport reads while it writes.
	maxPooled = 64 << 10
	// maxReply bounds the body of a reply that is handed back to a caller.
	maxReply = 8 << 20
)

// Dial opens a connection, as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Client holds the connections to all sinks. It is safe for concurrent use.
type Client struct {
	dial Dial
	pool *pool

	mu         sync.Mutex
	transports map[string]*http.Transport // by CA certificates

	hider atomic.Pointer[func() *strings.Replacer] // nil before Hide
}

// NewClient returns a Client that connects with dial; nil means a net.Dialer.
func NewClient(dial Dial) *Client {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	return &Client{dial: dial, pool: newPool(dial), transports: map[string]*http.Transport{}}
}

// Hide has the secrets of p hidden in errors from now on, besides those of each sink's own URL: a sink may say what it knows.
func (c *Client) Hide(p *plan.Plan) {
	hider := sync.OnceValue(func() *strings.Replacer { return plan.Hider(p) })
	c.hider.Store(&hider)
}

// Keep lets go of what only sinks needed that p does not have: a sink's authority may change every week. Such a sink still works, for what is under way.
func (c *Client) Keep(p *plan.Plan) {
	used := map[string]bool{}
	use := func(targets ...*plan.Target) {
		for _, t := range targets {
			if t != nil {
				used[t.CACerts] = true
			}
		}
	}
	for _, s := range p.Sources {
		use(s.Sink, s.DeadLetter)
	}
	for _, s := range p.Subscribers {
		use(s.Sink, s.DeadLetter)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for caCerts, t := range c.transports {
		if !used[caCerts] {
			delete(c.transports, caCerts)
			t.CloseIdleConnections() // those in use close by themselves, at the latest when they were idle for a minute
		}
	}
}

// Close closes the connections that are not in use.
func (c *Client) Close() {
	c.pool.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}

// Sink returns a handler that posts each event to t once, in binary mode.
func (c *Client) Sink(t plan.Target) (*Sink, error) {
	u, err := url.Parse(t.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s: %q is not an http or https URL", t.Name, t.Address())
	}
	transport, err := c.transport(t.CACerts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Name, err)
	}
	s := &Sink{name: t.Address(), url: *u, caCerts: t.CACerts, transport: transport, client: c}
	if t.Secret {
		s.name = "a URL that is in a Secret" // callers of an EventSource are told of errors, and need not know which
	}
	s.hider = sync.OnceValue(func() *strings.Replacer { return plan.Hider(&t) })
	if u.User != nil {
		r := http.Request{Header: http.Header{}}
		password, _ := u.User.Password()
		r.SetBasicAuth(u.User.Username(), password)
		s.authorization = r.Header["Authorization"]
		s.url.User = nil
	}
	if s.url.Scheme == "http" && isASCII(s.url.Host) {
		s.pool, s.address = c.pool, net.JoinHostPort(s.url.Hostname(), cmp.Or(s.url.Port(), "80"))
		if s.head, err = s.requestHead(); err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	return s, nil
}

// requestHead returns the beginning of every request, up to the headers of the event.
func (s *Sink) requestHead() ([]byte, error) {
	var b bytes.Buffer
	req := &http.Request{Method: http.MethodPost, URL: &s.url, Host: s.url.Host, Header: http.Header{"User-Agent": userAgent}}
	if s.authorization != nil {
		req.Header["Authorization"] = s.authorization
	}
	if err := req.Write(&b); err != nil {
		return nil, err
	}
	head := bytes.Replace(b.Bytes(), []byte("Content-Length: 0\r\n"), nil, 1)
	return bytes.TrimSuffix(head, []byte("\r\n")), nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

func (c *Client) transport(caCerts string) (*http.Transport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.transports[caCerts]; ok {
		return t, nil
	}
	t := &http.Transport{
		DialContext:           c.dial,
		MaxIdleConns:          1024,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       60 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // bodies are thrown away or handed back as they are
		ForceAttemptHTTP2:     true,
		WriteBufferSize:       4 << 10,
		ReadBufferSize:        4 << 10,
	}
	var err error
	if t.TLSClientConfig, err = (&plan.TLS{CACerts: caCerts}).Config(); err != nil {
		return nil, err
	}
	c.transports[caCerts] = t
	return t, nil
}

// Sink posts events to one URL. It is safe for concurrent use.
type Sink struct {
	name          string
	url           url.URL
	authorization []string
	caCerts       string
	transport     *http.Transport
	client        *Client
	hider         func() *strings.Replacer // of the secrets of the URL

	// For what the pool does:
	pool    *pool // nil if it cannot
	address string
	head    []byte
}

var _ event.Handler = (*Sink)(nil)

// StatusError is an answer that is not 2xx.
type StatusError struct {
	URL  string
	Code int
	// Body is the beginning of the answer's body, without secrets.
	Body []byte
	// RetryAfter is how long the sink asked to wait, zero if it did not.
	RetryAfter time.Duration
}

// Error says who answered what.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("post %s: status %d", e.URL, e.Code)
	if len(e.Body) > 0 {
		text += fmt.Sprintf(" (%.120q)", e.Body)
	}
	return text
}

// Handle makes one attempt. The error of an answer that trying again cannot cure is permanent: 3xx, which is not followed, and
// 4xx but 404, 408, 409 and 429.
func (s *Sink) Handle(ctx context.Context, e *event.Event) error {
	resp, err := s.post(ctx, e)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		drain(resp)
		return nil
	}
	failure := &StatusError{URL: s.name, Code: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	defer hurry(resp)()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	body = []byte(s.hide(string(body)))
	failure.Body = body[:min(len(body), maxErrorBody)]
	if to, err := resp.Location(); err == nil && resp.StatusCode < 400 { // only its host: a token may be in all else
		failure.Body = []byte(s.hide("redirects are not followed, this one leads to " + cmp.Or(to.Host, s.url.Host)))
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
	switch {
	case resp.StatusCode == http.StatusRequestEntityTooLarge, resp.StatusCode == http.StatusRequestHeaderFieldsTooLarge:
		return event.Permanent(fmt.Errorf("%w: %w", event.ErrTooLarge, failure)) // a dead letter may be tried smaller
	case !retryable(resp.StatusCode):
		return event.Permanent(failure)
	}
	return failure
}

// hide returns what the sink said without secrets that we know.
func (s *Sink) hide(text string) string {
	text = s.hider().Replace(text)
	if hider := s.client.hider.Load(); hider != nil {
		text = (*hider)().Replace(text)
	}
	return text
}

func retryable(code int) bool {
	switch code {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return code >= 500
}

// drain reads a short answer to its end, so that the connection can be used again; a long or slow one is cut off.
func drain(resp *http.Response) {
	if resp.Body == http.NoBody || resp.ContentLength == 0 {
		return
	}
	defer hurry(resp)()
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
}

// hurry ends the reading of the answer's body after drainTime, unless what it returns is called.
func hurry(resp *http.Response) (stop func()) {
	timer := time.AfterFunc(drainTime, func() { _ = resp.Body.Close() })
	return func() { timer.Stop() }
}

// Reply is what a sink answered.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// ErrReply is wrapped by the errors of Call once the sink has begun to answer: it has handled the event, and only its answer cannot be had.
var ErrReply = errors.New("read reply")

// Call makes one attempt and returns the answer, whatever its status. An answer larger than 8 MiB is an error.
func (s *Sink) Call(ctx context.Context, e *event.Event) (*Reply, error) {
	resp, err := s.post(ctx, e)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return nil, fmt.Errorf("%w of %s: %w", ErrReply, s.name, err)
	}
	if len(body) > maxReply {
		return nil, fmt.Errorf("%w of %s: larger than %d bytes", ErrReply, s.name, maxReply)
	}
	return &Reply{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

func (s *Sink) post(ctx context.Context, e *event.Event) (*http.Response, error) {
	var resp *http.Response
	var err error
	if data := e.Data(); s.pool != nil && len(data) <= maxPooled && httpguts.ValidHeaderFieldValue(e.DataContentType()) {
		resp, err = s.pool.do(ctx, s.address, func(b []byte) []byte { return s.appendRequest(b, e, data) })
	} else {
		resp, err = s.transport.RoundTrip(s.request(ctx, e, data))
	}
	if err != nil {
		return nil, fmt.Errorf("post %s: %w", s.name, s.explain(err))
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// The connection is no longer HTTP's: nothing but Close would end a read from it.
		_ = resp.Body.Close()
		resp.Body = http.NoBody
	}
	return resp, nil
}

func (s *Sink) appendRequest(b []byte, e *event.Event, data []byte) []byte {
	b = append(b, s.head...)
	eachHeader(e, func(name, value string) {
		b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
	})
	b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(data)), 10), "\r\n\r\n"...)
	return append(b, data...)
}

func (s *Sink) request(ctx context.Context, e *event.Event, data []byte) *http.Request {
	header := http.Header{"User-Agent": userAgent}
	if s.authorization != nil {
		header["Authorization"] = s.authorization
	}
	eachHeader(e, func(name, value string) { header[name] = []string{value} })
	req := (&http.Request{
		Method: http.MethodPost, URL: &s.url, Host: s.url.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(data)), Body: http.NoBody,
	}).WithContext(ctx)
	if len(data) > 0 {
		req.Body = io.NopCloser(bytes.NewReader(data))
		// With GetBody a connection that the sink closed while idle is replaced without an attempt being lost.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	}
	return req
}

// eachHeader calls add for the headers of e in binary mode.
func eachHeader(e *event.Event, add func(name, value string)) {
	if ct := e.DataContentType(); ct != "" {
		add("Content-Type", ct)
	}
	event.EachAttribute(e, func(name, value string) { add(headerName(name), event.EscapeHeader(value)) })
}

var userAgent = []string{"openfunction-events"}

var coreHeaders = map[string]string{
	"specversion": "Ce-Specversion", "id": "Ce-Id", "source": "Ce-Source", "type": "Ce-Type", "subject": "Ce-Subject",
	"time": "Ce-Time", "dataschema": "Ce-Dataschema", "schemaurl": "Ce-Schemaurl",
}

func headerName(attribute string) string {
	if name, ok := coreHeaders[attribute]; ok {
		return name
	}
	return textproto.CanonicalMIMEHeaderKey("ce-" + attribute)
}

// retryAfter reads the header's two forms, seconds and a date (RFC 9110, section 10.2.3).
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.Atoi(value); err == nil {
		return max(0, min(time.Duration(seconds), 24*3600)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
