package dispatch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	maxIdle        = 1024 // connections
	maxIdlePerSink = 256
	idleTimeout    = 60 * time.Second
	// maxHead bounds the status line and the headers of an answer, and of what comes before it.
	maxHead = 1 << 20
	// maxInformational is how many 1xx answers may come before the one that counts.
	maxInformational = 5
	// maxKept is how large a buffer an idle connection keeps.
	maxKept = 16 << 10
)

// pool makes requests over HTTP/1.1 without TLS. Whoever makes a request writes it and reads its answer: http.Transport has two goroutines
// for each connection, and to wake them is a tenth of what an event costs from end to end. It is safe for concurrent use.
type pool struct {
	dial Dial

	mu      sync.Mutex
	idle    map[string][]*connection // by address, the one that was used last at the end
	count   int
	sweeper *time.Timer // nil when nothing is idle
	closed  bool
}

// connection is used by one request at a time.
type connection struct {
	net.Conn
	address string
	in      *bufio.Reader
	out     []byte
	left    int64 // what may be read now
	raw     syscall.RawConn
	peek    func(fd uintptr) bool
	quiet   bool // what peek saw
	since   time.Time
}

var errHead = fmt.Errorf("the headers of the answer are more than %d bytes", maxHead)

func newPool(dial Dial) *pool { return &pool{dial: dial, idle: map[string][]*connection{}} }

// do sends the request that write appends to a buffer and returns the answer, whose body must be closed. When a connection that was idle
// brings no answer, because its sink is just closing it, the request is made once more, over a new one.
func (p *pool) do(ctx context.Context, address string, write func([]byte) []byte) (*http.Response, error) {
	c := p.take(address)
	for {
		used := c != nil
		if !used {
			var err error
			if c, err = p.connect(ctx, address); err != nil {
				return nil, err
			}
		}
		resp, err := p.exchange(ctx, c, write)
		if err == nil {
			return resp, nil
		}
		_ = c.Close()
		silent := c.left == maxHead
		switch {
		case ctx.Err() != nil && used && silent:
			p.forget(address)
			return nil, ctx.Err()
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !used || !silent:
			return nil, err
		}
		c = nil
	}
}

func (p *pool) exchange(ctx context.Context, c *connection, write func([]byte) []byte) (*http.Response, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	c.left = maxHead
	c.out = write(c.out[:0])
	_, failed := c.Write(c.out)
	if cap(c.out) > maxKept {
		c.out = nil
	}
	resp, err := c.answer() // also when writing failed: the sink may have said why before it closed the connection
	if err != nil {
		stop()
		return nil, errors.Join(failed, err)
	}
	c.left = math.MaxInt64
	b := &body{Reader: resp.Body, pool: p, connection: c, stop: stop}
	b.reusable = failed == nil && !resp.Close && resp.StatusCode != http.StatusSwitchingProtocols
	if resp.Body != http.NoBody {
		resp.Body = b
		return resp, nil
	}
	b.whole.Store(true)
	return resp, b.Close()
}

func (c *connection) answer() (*http.Response, error) {
	for range maxInformational {
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil {
			if c.left == maxHead {
				return nil, fmt.Errorf("no answer: %w", err)
			}
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
	return nil, fmt.Errorf("more than %d informational answers", maxInformational)
}

// Read is what the buffer of the connection reads from.
func (c *connection) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHead
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}

// body is that of an answer. Close may be called during Read, which it ends.
type body struct {
	io.Reader
	pool       *pool
	connection *connection
	stop       func() bool
	reusable   bool
	whole      atomic.Bool // it was read to its end
	once       sync.Once
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		b.whole.Store(true)
	}
	return n, err
}

func (b *body) Close() error {
	b.once.Do(func() {
		if b.stop() && b.reusable && b.whole.Load() { // once stop is too late, the connection has a deadline that is over
			b.pool.put(b.connection)
			return
		}
		_ = b.connection.Close()
	})
	return nil
}

func (p *pool) connect(ctx context.Context, address string) (*connection, error) {
	conn, err := p.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: conn, address: address}
	c.in = bufio.NewReaderSize(c, 4<<10)
	if s, ok := conn.(syscall.Conn); ok {
		if c.raw, err = s.SyscallConn(); err != nil {
			_ = conn.Close()
			return nil, err
		}
		c.peek = func(fd uintptr) bool {
			c.quiet = nothingToRead(fd)
			return true
		}
	}
	return c, nil
}

// take returns an idle connection, or nil. One that its sink has closed is not used, nor one on which the sink has said what nobody asked for:
// that would be taken for the answer to the next request.
func (p *pool) take(address string) *connection {
	for {
		c := p.pop(address)
		if c == nil || c.isQuiet() {
			return c
		}
		_ = c.Close()
	}
}

func (c *connection) isQuiet() bool {
	if c.in.Buffered() > 0 {
		return false
	}
	if c.raw == nil {
		return true
	}
	return c.raw.Read(c.peek) == nil && c.quiet
}

func (p *pool) pop(address string) *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[address]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	list[len(list)-1] = nil
	p.idle[address] = list[:len(list)-1]
	p.count--
	return c
}

func (p *pool) put(c *connection) {
	c.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[c.address]
	if p.closed || p.count >= maxIdle || len(list) >= maxIdlePerSink {
		_ = c.Close()
		return
	}
	p.idle[c.address] = append(list, c)
	p.count++
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(idleTimeout/2, p.sweep)
	}
}

// sweep closes what has been idle for too long.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, list := range p.idle {
		old := 0
		for old < len(list) && time.Since(list[old].since) >= idleTimeout {
			_ = list[old].Close()
			old++
		}
		p.count -= old
		if p.idle[address] = append([]*connection(nil), list[old:]...); old == len(list) {
			delete(p.idle, address)
		}
	}
	p.sweeper = nil
	if p.count > 0 {
		p.sweeper = time.AfterFunc(idleTimeout/2, p.sweep)
	}
}

// forget closes what is idle to address. The machine behind it may be gone without a word, and then each of these connections would cost an
// attempt of its own.
func (p *pool) forget(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle[address] {
		_ = c.Close()
	}
	p.count -= len(p.idle[address])
	delete(p.idle, address)
}

// close closes what is idle, and what is in use once it is not.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
	for _, list := range p.idle {
		for _, c := range list {
			_ = c.Close()
		}
	}
	clear(p.idle)
	p.count = 0
}
