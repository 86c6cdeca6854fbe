package embedded

import (
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// logger passes on what a server says. What it only notices is for those who look for a mistake.
type logger struct{ log *zap.SugaredLogger }

var _ server.Logger = logger{}

func (l logger) say(log func(string, ...any), format string, args []any) {
	log("the server speaks", "text", fmt.Sprintf(format, args...))
}

func (l logger) Noticef(format string, args ...any) { l.say(l.log.Debugw, format, args) }
func (l logger) Warnf(format string, args ...any)   { l.say(l.log.Warnw, format, args) }
func (l logger) Errorf(format string, args ...any)  { l.say(l.log.Errorw, format, args) }
func (l logger) Fatalf(format string, args ...any)  { l.say(l.log.Errorw, format, args) }
func (l logger) Debugf(format string, args ...any)  { l.say(l.log.Debugw, format, args) }
func (l logger) Tracef(format string, args ...any)  { l.say(l.log.Debugw, format, args) }
