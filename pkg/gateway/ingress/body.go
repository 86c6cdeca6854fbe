package ingress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/openfunction/events/pkg/gateway/room"
)

// refusal is an answer in place of an event.
type refusal struct {
	status int
	says   string
	// challenge, if set, says how to authenticate, and after when to try again.
	challenge string
	after     time.Duration
}

// Error returns the sentence for the caller.
func (r *refusal) Error() string { return r.says }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status: status, says: fmt.Sprintf(format, args...)}
}

// exact is the largest body that gets its memory at once. Beyond it memory grows with what really arrives:
// callers that announce much and send nothing must not cost much.
const exact = 256 << 10

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooled keeps buffers that a rare large body needed from staying for good.
const maxPooled = 2 << 20

// dataLimit is the largest data in bytes of an event of a route.
func dataLimit(maxBodyBytes int64) int64 {
	if maxBodyBytes <= 0 {
		return 1 << 20
	}
	return maxBodyBytes
}

// bodyLimit is the largest body of a request. In JSON, data may travel as base64, and attributes are in the body:
// what is accepted in binary mode is accepted in the other modes too.
func bodyLimit(m mode, maxBodyBytes int64) int64 {
	limit := dataLimit(maxBodyBytes)
	if m == modeStructured || m == modeBatch {
		limit += limit/3 + 64<<10
	}
	return limit
}

var errNoRoom = &refusal{status: http.StatusServiceUnavailable, after: time.Second, says: "the bodies of requests to this event that are inside take all the room: try again later"}

// charged is a body that takes room as it arrives.
type charged struct {
	io.Reader
	share      *room.Share
	read, paid int64
}

// step is how much room a body takes at first, and then as much as it has.
const step = 64 << 10

// Read implements io.Reader.
func (c *charged) Read(p []byte) (int, error) {
	if c.read == c.paid {
		more, take := max(step, c.paid), c.share.Try
		if c.paid > 0 {
			take = c.share.Grow
		}
		if !take(more) {
			return 0, errNoRoom
		}
		c.paid += more
	}
	n, err := c.Reader.Read(p[:min(int64(len(p)), c.paid-c.read)])
	c.read += int64(n)
	return n, err
}

// readBody returns the body in memory of its own, or a *refusal, and in either case how much room of share it takes.
func readBody(r *http.Request, limit int64, share *room.Share) (body []byte, held int64, err error) {
	n := r.ContentLength
	if n > limit {
		return nil, 0, tooLarge(limit)
	}
	if n == 0 || r.Body == nil {
		return nil, 0, nil
	}
	if n > 0 && n <= exact {
		if !share.Try(n) {
			return nil, 0, errNoRoom
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, n, brokenBody(err)
		}
		return body, n, nil
	}
	buffer := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buffer.Cap() <= maxPooled {
			buffer.Reset()
			buffers.Put(buffer)
		}
	}()
	c := &charged{Reader: io.LimitReader(r.Body, limit+1), share: share}
	if _, err := buffer.ReadFrom(c); err != nil {
		return nil, c.paid, brokenBody(err)
	}
	if int64(buffer.Len()) > limit {
		return nil, c.paid, tooLarge(limit)
	}
	return bytes.Clone(buffer.Bytes()), c.paid, nil
}

func tooLarge(limit int64) error {
	return refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes: send less at once, or raise maxBodyBytes of the event", limit)
}

func brokenBody(err error) error {
	if errors.Is(err, errNoRoom) {
		return err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return refuse(http.StatusRequestTimeout, "the body did not arrive in time: send the request again")
	}
	return refuse(http.StatusBadRequest, "the body cannot be read: %v", err)
}
