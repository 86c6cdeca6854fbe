package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// noStreamRetries is how often a publication is sent again that no stream answered for: its leader may just be changing.
	noStreamRetries = 2
	noStreamWait    = 250 * time.Millisecond
)

// publisher sends to streams and waits for their acknowledgements, of which it reads no more than whether they are errors. It is what
// every event passes, which is why it is here in place of the client library's: that one spends a future, two channels, two timers and the
// JSON of the acknowledgement on each.
type publisher struct {
	nc     *nats.Conn
	prefix string
	sub    *nats.Subscription
	slots  chan struct{} // one in it for each publication that waits

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]*publication
}

// publication waits for one acknowledgement. It is used again only after its answer was received.
type publication struct {
	subject string     // under the publisher's lock
	answer  chan error // has room for one
	timer   *time.Timer
}

var publications = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &publication{answer: make(chan error, 1), timer: t}
}}

func newPublisher(nc *nats.Conn) (*publisher, error) {
	p := &publisher{nc: nc, prefix: nc.NewInbox() + ".", slots: make(chan struct{}, window), waiting: map[uint64]*publication{}}
	var err error
	if p.sub, err = nc.Subscribe(p.prefix+"*", p.receive); err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	// Each publication has one answer of a few bytes, and there is a bound on publications.
	return p, p.sub.SetPendingLimits(-1, -1)
}

// publish sends m and waits until its stream has stored it. Once lost is closed it does not: the answer would not come.
func (p *publisher) publish(ctx context.Context, lost, stopped <-chan struct{}, m *nats.Msg) error {
	for attempt := 0; ; attempt++ {
		err := p.try(ctx, lost, stopped, m)
		if !errors.Is(err, jetstream.ErrNoStreamResponse) || attempt == noStreamRetries {
			return err
		}
		timer := time.NewTimer(noStreamWait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (p *publisher) try(ctx context.Context, lost, stopped <-chan struct{}, m *nats.Msg) error {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.slots }()
	w := publications.Get().(*publication)
	w.timer.Reset(requestTimeout)
	p.mu.Lock()
	p.last++
	id := p.last
	w.subject = m.Subject
	p.waiting[id] = w
	p.mu.Unlock()
	m.Reply = p.prefix + strconv.FormatUint(id, 36)
	err := p.nc.PublishMsg(m)
	if err == nil {
		select {
		case err := <-w.answer:
			w.timer.Stop() // first: once it is put back, the timer is somebody else's
			publications.Put(w)
			return err
		case <-w.timer.C:
			err = jetstream.ErrAsyncPublishTimeout
		case <-ctx.Done():
			err = ctx.Err()
		case <-lost:
			err = nats.ErrDisconnected
		case <-stopped:
			err = errClosed
		}
	}
	w.timer.Stop()
	p.mu.Lock()
	delete(p.waiting, id)
	p.mu.Unlock()
	return err
}

// receive gets the acknowledgements.
func (p *publisher) receive(m *nats.Msg) {
	id, err := strconv.ParseUint(m.Subject[len(p.prefix):], 36, 64)
	if err != nil {
		return
	}
	p.mu.Lock()
	w := p.waiting[id]
	delete(p.waiting, id)
	p.mu.Unlock()
	if w != nil {
		w.answer <- outcome(m)
	}
}

// deny answers what waits on the subject, and tells whether something did: a server that does not permit to publish there says so once,
// besides, and acknowledges nothing.
func (p *publisher) deny(subject string, err error) (told bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, w := range p.waiting {
		if w.subject == subject {
			delete(p.waiting, id)
			w.answer <- err
			told = true
		}
	}
	return told
}

// outcome reads an acknowledgement: {"stream":"S","seq":1}, or {"error":{...},"stream":"S","seq":0}
// (https://docs.nats.io/reference/reference-protocols/nats_api_reference#publishing-to-a-stream), or nothing when there is no stream.
func outcome(m *nats.Msg) error {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return jetstream.ErrNoStreamResponse
	}
	if bytes.HasPrefix(m.Data, []byte(`{"stream":"`)) && !bytes.Contains(m.Data, []byte(`"error"`)) {
		return nil
	}
	var ack struct {
		Error  *jetstream.APIError `json:"error"`
		Stream string              `json:"stream"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return fmt.Errorf("%w: %w", jetstream.ErrInvalidJSAck, err)
	}
	switch {
	case ack.Error != nil:
		return ack.Error
	case ack.Stream == "":
		return jetstream.ErrInvalidJSAck
	}
	return nil
}

// settle waits until every publication has its answer, or for d.
func (p *publisher) settle(d time.Duration) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-ticker.C {
		p.mu.Lock()
		n := len(p.waiting)
		p.mu.Unlock()
		if n == 0 {
			return
		}
	}
}
