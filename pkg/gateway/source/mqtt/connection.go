package mqtt

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

const (
	// connectTimeout bounds an attempt to connect, and the wait for the answer to the subscription.
	connectTimeout = 10 * time.Second
	// writeTimeout bounds how long a server may refuse to take an answer.
	writeTimeout = 10 * time.Second
	// keepAlive is how long a server may hear nothing until it gives us up. We say something twice as often.
	keepAlive = 40 * time.Second
	// maxPacket is the largest message in bytes that is read. No bus takes one that is a quarter of it.
	maxPacket = 32 << 20
	// maxAnswer is the largest of all other packets: what is longest in them are words of the server, 64 KiB at most.
	maxAnswer = 128 << 10
	// closeTimeout is how long the server may take to close the connection once it was asked to.
	closeTimeout = 2 * time.Second
)

// connection carries packets. Any goroutine may send, one may receive.
type connection struct {
	conn     net.Conn
	protocol protocol
	reader   *bufio.Reader

	sending sync.Mutex
	writer  *bufio.Writer

	mu       sync.Mutex
	patience time.Duration // how long the server may be silent
	closeBy  time.Time     // when set, patience does not count any more
}

// open connects and returns the server's answer, which may be a refusal.
func open(ctx context.Context, e *endpoint, dial dialFunc, p protocol, hello connect) (*connection, connack, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := e.dial(ctx, dial)
	if err != nil {
		return nil, connack{}, err
	}
	c := &connection{conn: conn, protocol: p, patience: connectTimeout}
	c.reader, c.writer = bufio.NewReader(silenceLimit{c}), bufio.NewWriter(conn)
	stop := context.AfterFunc(ctx, c.close)
	answer, err := c.greet(hello)
	if !stop() {
		err = fmt.Errorf("connect: %w", ctx.Err())
		if errors.Is(err, context.DeadlineExceeded) {
			err = &stranger{}
		}
	}
	if err != nil {
		c.close()
		return nil, connack{}, err
	}
	c.patience = keepAlive
	return c, answer, nil
}

func (c *connection) greet(hello connect) (connack, error) {
	// A server that does not like our certificate may have said so, and hung up, before it heard this.
	_ = c.write(hello)
	head, err := c.reader.Peek(1)
	var silent net.Error
	switch {
	case errors.As(err, &silent) && silent.Timeout():
		return connack{}, &stranger{}
	case err != nil:
		return connack{}, &hungUp{err}
	case head[0] != packets.CONNACK<<4:
		answer, _ := c.reader.Peek(min(c.reader.Buffered(), 16))
		return connack{}, &stranger{bytes.Clone(answer)}
	}
	p, err := c.receive()
	if err != nil {
		return connack{}, &hungUp{err}
	}
	return p.(connack), nil
}

// stranger is the error of a server that does not answer as one of MQTT would.
type stranger struct{ answer []byte }

func (e *stranger) Error() string { return "what answers is no MQTT server" }

// hungUp is the error of a server that ended the connection instead of answering CONNECT, or the first of a websocket.
type hungUp struct{ error }

func (e *hungUp) Unwrap() error { return e.error }

// send writes packets. If that fails, the connection is closed and receive returns.
func (c *connection) send(packets ...any) error {
	err := c.write(packets...)
	if err != nil {
		c.close()
	}
	return err
}

func (c *connection) write(packets ...any) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	for _, p := range packets {
		if err := c.protocol.write(c.writer, p); err != nil {
			return err
		}
	}
	return c.writer.Flush()
}

func (c *connection) receive() (any, error) {
	isMessage, length, err := c.next()
	switch {
	case err != nil:
		return nil, err
	case !isMessage && length > maxAnswer:
		return nil, fmt.Errorf("the server sent what is not MQTT: an answer of %d bytes", length)
	case length > maxPacket:
		return nil, &oversizeError{length}
	}
	return c.protocol.read(c.reader)
}

// next looks at what the next packet is and how long, as its fixed header says (MQTT 5, sections 2.1.2 and 2.1.4): who reads it makes room for
// all of it, maybe more than once, before the first byte has come.
func (c *connection) next() (isMessage bool, length int, err error) {
	for n := 1; n <= 4; n++ {
		head, err := c.reader.Peek(1 + n)
		if err != nil {
			return false, 0, err
		}
		length |= int(head[n]&0x7f) << (7 * (n - 1))
		if head[n] < 0x80 {
			return head[0]>>4 == packets.PUBLISH, length, nil
		}
	}
	return false, 0, errors.New("the server sent what is not MQTT: a packet without an end to its length")
}

// oversizeError is the error of a packet that is not read.
type oversizeError struct{ bytes int }

func (e *oversizeError) Error() string { return fmt.Sprintf("a packet of %d bytes", e.bytes) }

func (c *connection) close() { _ = c.conn.Close() }

// leave tells the server that we go, and lets receive go on until the server has closed the connection: what is closed while
// something is unread is reset, and the server might lose our last acknowledgements.
func (c *connection) leave() {
	c.mu.Lock()
	c.closeBy = time.Now().Add(closeTimeout)
	_ = c.conn.SetReadDeadline(c.closeBy)
	c.mu.Unlock()
	_ = c.send(disconnect{})
}

// part leaves and waits until the server has closed the connection. Nobody else may receive.
func (c *connection) part() {
	defer c.close()
	c.leave()
	for {
		if _, err := c.receive(); err != nil {
			return
		}
	}
}

// silenceLimit ends a connection on which nothing comes, not even the answer to a ping. A pause in reading does not count.
type silenceLimit struct{ *connection }

func (s silenceLimit) Read(b []byte) (int, error) {
	s.mu.Lock()
	if s.closeBy.IsZero() {
		_ = s.conn.SetReadDeadline(time.Now().Add(s.patience))
	}
	s.mu.Unlock()
	return s.conn.Read(b)
}

// ping keeps the connection alive until ended is closed.
func (c *connection) ping(ended <-chan struct{}, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ended:
			return
		case <-t.C:
			_ = c.send(pingreq{})
		}
	}
}
