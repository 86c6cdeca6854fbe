package main

import (
	"fmt"
	"io"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/openfunction/events/pkg/flood"
)

// newLogger writes lines for people, since a person reads them next to what is delivered. Of a flood it writes the beginning and the
// extent, except for the level debug, which asks for everything. What was held back is written by flush at the latest.
func newLogger(level string, stderr io.Writer) (log *zap.SugaredLogger, flush func(), err error) {
	var l zapcore.Level
	switch level := strings.ToLower(level); level {
	case "debug", "info", "warn", "error":
		if err := l.Set(level); err != nil {
			return nil, nil, err
		}
	default:
		return nil, nil, fmt.Errorf("%q: want debug, info, warn or error", level)
	}
	format := zap.NewDevelopmentEncoderConfig()
	format.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	format.CallerKey = ""
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(format), zapcore.Lock(zapcore.AddSync(stderr)), l)
	if l == zapcore.DebugLevel {
		return zap.New(core).Sugar(), func() {}, nil
	}
	limited, flush := flood.Limit(core)
	return zap.New(limited).Sugar(), flush, nil
}
