package ingress

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/openfunction/events/pkg/event"
)

// replyTimeout bounds how long a caller may take to read a sink's reply.
const replyTimeout = time.Minute

// text answers with one sentence. As all that answers, it returns the status.
func text(w http.ResponseWriter, status int, says string) int {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, says+"\n") // a caller that is gone needs no answer
	return status
}

func retryLater(w http.ResponseWriter, status int, after time.Duration, says string) int {
	seconds := max(1, int64((after+time.Second-1)/time.Second))
	w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	return text(w, status, says)
}

// answerError always answers, even to a caller that seems to be gone: net/http would make a 200 of silence,
// and one that has only closed its half of the connection would believe it.
func answerError(w http.ResponseWriter, err error) int {
	var refused *refusal
	var away *event.Unavailable
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &refused):
		return answerRefusal(w, refused, err.Error())
	case errors.Is(err, ErrReply):
		return text(w, http.StatusBadGateway, err.Error())
	case errors.Is(err, event.ErrMalformed):
		return text(w, http.StatusBadRequest, err.Error())
	case errors.As(err, &away) && away.Full:
		return retryLater(w, http.StatusInsufficientStorage, away.After, err.Error())
	case errors.As(err, &away):
		return retryLater(w, http.StatusServiceUnavailable, away.After, err.Error()+": try again later")
	case errors.As(err, &large), errors.Is(err, event.ErrTooLarge):
		return text(w, http.StatusRequestEntityTooLarge, err.Error()+": send less at once")
	case event.IsPermanent(err):
		return text(w, http.StatusBadRequest, err.Error()+": sending it again will not help")
	case errors.Is(err, errPanic):
		return text(w, http.StatusInternalServerError, err.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return retryLater(w, http.StatusServiceUnavailable, time.Second, "the event was not taken in time: try again")
	default:
		return text(w, http.StatusBadGateway, "the event was not taken: "+err.Error())
	}
}

func answerRefusal(w http.ResponseWriter, refused *refusal, says string) int {
	if refused.challenge != "" {
		w.Header().Set("WWW-Authenticate", refused.challenge)
	}
	if refused.after > 0 {
		return retryLater(w, refused.status, refused.after, says)
	}
	return text(w, refused.status, says)
}

// answerReply passes a sink's response on, without what belonged to the connection to the sink.
func answerReply(w http.ResponseWriter, reply *Reply) int {
	h := w.Header()
	dropped := connectionHeaders(reply.Header)
	for name, values := range reply.Header {
		if !dropped[name] {
			h[name] = values
		}
	}
	// A caller that reads slowly may not keep its place for as long as a delivery may take.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(replyTimeout)) // not every writer can
	status := passable(reply.Status)
	w.WriteHeader(status)
	_, _ = w.Write(reply.Body) // a caller that is gone needs no answer
	return status
}

// connectionHeaders are those that hold between two neighbours only (RFC 9110, section 7.6.1).
func connectionHeaders(h http.Header) map[string]bool {
	dropped := map[string]bool{
		"Connection": true, "Content-Length": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
		"Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	}
	for _, named := range h["Connection"] {
		for name := range strings.SplitSeq(named, ",") {
			dropped[textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	return dropped
}

// passable is the status a caller gets for a sink's: one that is no final response is the sink's fault.
func passable(status int) int {
	if status < 200 || status > 599 {
		return http.StatusBadGateway
	}
	return status
}
