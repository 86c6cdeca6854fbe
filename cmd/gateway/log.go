package main

import (
	"fmt"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/flood"
)

// newLogger writes JSON to stderr as all programs of the cluster do. Of a flood it writes the beginning and the extent, except for the
// level debug. What was held back is written by flush at the latest.
func newLogger(level string) (log *zap.SugaredLogger, flush func(), err error) {
	l, err := parseLevel(level)
	if err != nil {
		return nil, nil, err
	}
	flush = func() {}
	log, _ = logging.NewLogger("", l.String(), zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		if l != zapcore.DebugLevel {
			core, flush = flood.Limit(core)
		}
		return core
	}))
	return log.Named("gateway"), flush, nil
}

// parseLevel understands the levels of spec.logLevel. A verbosity means what it does to Kubernetes: from 4 on it is for finding mistakes.
func parseLevel(level string) (zapcore.Level, error) {
	switch level {
	case "debug", "4", "5", "6", "7", "8", "9":
		return zapcore.DebugLevel, nil
	case "info", "1", "2", "3":
		return zapcore.InfoLevel, nil
	case "warn":
		return zapcore.WarnLevel, nil
	case "error":
		return zapcore.ErrorLevel, nil
	}
	return 0, fmt.Errorf("LOG_LEVEL %q: want debug, info, warn, error, or a verbosity from 1 to 9", level)
}
