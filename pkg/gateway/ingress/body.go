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

// readBody returns the body in memory of its own, or a *refusal.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	n := r.ContentLength
	if n > limit {
		return nil, tooLarge(limit)
	}
	if n == 0 || r.Body == nil {
		return nil, nil
	}
	if n > 0 && n <= exact {
		body := make([]byte, n)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, brokenBody(err)
		}
		return body, nil
	}
	buffer := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buffer.Cap() <= maxPooled {
			buffer.Reset()
			buffers.Put(buffer)
		}
	}()
	if _, err := buffer.ReadFrom(io.LimitReader(r.Body, limit+1)); err != nil {
		return nil, brokenBody(err)
	}
	if int64(buffer.Len()) > limit {
		return nil, tooLarge(limit)
	}
	return bytes.Clone(buffer.Bytes()), nil
}

func tooLarge(limit int64) error {
	return refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes: send less at once, or raise maxBodyBytes of the event", limit)
}

func brokenBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return refuse(http.StatusRequestTimeout, "the body did not arrive in time: send the request again")
	}
	return refuse(http.StatusBadRequest, "the body cannot be read: %v", err)
}
