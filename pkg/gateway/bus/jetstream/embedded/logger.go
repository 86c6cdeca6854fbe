package embedded

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// logger passes on what a server says. What it only notices is for those who look for a mistake.
type logger struct {
	log *zap.SugaredLogger
	// failed is told what the server says only there: that a write has failed, which its health shows when the next event is to be stored, and
	// until then the store removes nothing either; and that it goes on without something that it could not read.
	failed func(text string)
	// alone tells that no other server has what this one leaves out.
	alone bool
}

// failures are in what is said of a write that has failed, and of streams and subscriptions that are left out.
var failures = []string{
	"ritical write error: ", "Error recreating stream ", "Error reading metafile ", "Error adding consumer ", "Error reading consumer metafile ",
}

// losses are in what is said of others that it leaves out. What is missing altogether may be what a crash had not made yet: see contents.
var losses = []string{
	"checksums do not match", "Error unmarshalling stream metafile ", "Error unmarshalling consumer metafile ", "Error reading Stream metafile checksum ",
}

var _ server.Logger = logger{}

func (l logger) say(log func(string, ...any), format string, args []any) {
	log("the server speaks", "text", fmt.Sprintf(format, args...))
}

func (l logger) complain(log func(string, ...any), format string, args []any) {
	l.say(log, format, args)
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	says := func(part string) bool { return strings.Contains(text, part) }
	if slices.ContainsFunc(failures, says) || l.alone && slices.ContainsFunc(losses, says) {
		l.failed(text)
	}
}

func (l logger) Errorf(format string, args ...any)  { l.complain(l.log.Errorw, format, args) }
func (l logger) Warnf(format string, args ...any)   { l.complain(l.log.Warnw, format, args) }
func (l logger) Noticef(format string, args ...any) { l.say(l.log.Debugw, format, args) }
func (l logger) Fatalf(format string, args ...any)  { l.say(l.log.Errorw, format, args) }
func (l logger) Debugf(format string, args ...any)  { l.say(l.log.Debugw, format, args) }
func (l logger) Tracef(format string, args ...any)  { l.say(l.log.Debugw, format, args) }
