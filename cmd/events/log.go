package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// equalLines is how many lines with one message are written within logWindow; of the others only the number is.
	equalLines = 10
	logWindow  = 5 * time.Second
)

// newLogger writes lines for people, since a person reads them next to what is delivered. Of a flood it writes the beginning and the
// extent, except for the level debug, which asks for everything. What was held back is written by flush at the latest.
func newLogger(level string, stderr io.Writer) (log *zap.SugaredLogger, flush func(), err error) {
	var l zapcore.Level
	switch level {
	case "debug", "info", "warn", "error":
		if err := l.Set(level); err != nil {
			return nil, nil, err
		}
	default:
		return nil, nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	format := zap.NewDevelopmentEncoderConfig()
	format.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	format.CallerKey = ""
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(format), zapcore.Lock(zapcore.AddSync(stderr)), l)
	if l == zapcore.DebugLevel {
		return zap.New(core).Sugar(), func() {}, nil
	}
	b := &bounded{Core: core, flood: &flood{out: core, messages: map[string]*repeated{}, window: logWindow}}
	return zap.New(b).Sugar(), b.flood.flush, nil
}

// bounded is a core that writes the first lines with a message, and then only how many more there were.
type bounded struct {
	zapcore.Core
	flood *flood
}

// With adds fields; lines are counted together with those of the core without them.
func (b *bounded) With(fields []zapcore.Field) zapcore.Core {
	return &bounded{Core: b.Core.With(fields), flood: b.flood}
}

// Check adds the core to what writes the entry, unless there were too many like it.
func (b *bounded) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !b.Enabled(e.Level) || !b.flood.admit(e) {
		return checked
	}
	return checked.AddCore(e, b.Core)
}

// flood counts lines by their message.
type flood struct {
	out    zapcore.Core
	window time.Duration

	mu       sync.Mutex
	messages map[string]*repeated
}

// repeated is what happened to one message within its window, which the timer ends.
type repeated struct {
	level         zapcore.Level
	written, held int
	timer         *time.Timer
}

// admit tells whether the entry is among the first of its window. Messages are constant here, so that there are few.
func (f *flood) admit(e zapcore.Entry) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.messages[e.Message]
	if r == nil {
		r = &repeated{level: e.Level}
		r.timer = time.AfterFunc(f.window, func() { f.end(e.Message) })
		f.messages[e.Message] = r
	}
	if r.written == equalLines {
		r.held++
		return false
	}
	r.written++
	return true
}

// end writes how many lines were held back in the window of a message.
func (f *flood) end(message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.messages[message]
	if r == nil {
		return
	}
	r.timer.Stop()
	delete(f.messages, message)
	if r.held > 0 {
		// Writing to a terminal or a file: whoever else wants to log waits as long for that one.
		_ = f.out.Write(zapcore.Entry{Level: r.level, Time: time.Now(), Message: message}, []zapcore.Field{zap.Int("more", r.held)})
	}
}

// flush ends all windows.
func (f *flood) flush() {
	f.mu.Lock()
	var messages []string
	for m := range f.messages {
		messages = append(messages, m)
	}
	f.mu.Unlock()
	for _, m := range messages {
		f.end(m)
	}
}
