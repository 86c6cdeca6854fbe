package embedded

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// logger passes on what a server says. What it only notices is for those who look for a mistake.
type logger struct {
	log *zap.SugaredLogger
	// failed is told that a write has failed, which a store says at once and only there: the server's health shows it when the next event is
	// to be stored, and until then the store removes nothing either.
	failed func(text string)
}

var _ server.Logger = logger{}

func (l logger) say(log func(string, ...any), format string, args []any) {
	log("the server speaks", "text", fmt.Sprintf(format, args...))
}

func (l logger) Errorf(format string, args ...any) {
	l.say(l.log.Errorw, format, args)
	if text := fmt.Sprintf(format, args...); strings.Contains(text, "ritical write error: ") {
		l.failed(text)
	}
}

func (l logger) Noticef(format string, args ...any) { l.say(l.log.Debugw, format, args) }
func (l logger) Warnf(format string, args ...any)   { l.say(l.log.Warnw, format, args) }
func (l logger) Fatalf(format string, args ...any)  { l.say(l.log.Errorw, format, args) }
func (l logger) Debugf(format string, args ...any)  { l.say(l.log.Debugw, format, args) }
func (l logger) Tracef(format string, args ...any)  { l.say(l.log.Debugw, format, args) }
