// Package flood keeps a log readable when one message is logged over and over.
package flood

import (
	"fmt"
	"hash/maphash"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// equalLines is how many lines with one message are written within window; of the others only the number is.
	equalLines = 10
	window     = 5 * time.Second
	// ownLine is how often each logger may write a message however many others wrote it: what fails for many at once is said of each.
	ownLine = 10 * time.Minute
	// owners bounds the loggers and messages for which that is known.
	owners = 10_000
	// sweepEvery is how often those are looked through, while there is no room for another one: everybody who logs waits for that.
	sweepEvery = time.Second
)

// Limit returns a core that writes of each message the first lines to out, of each logger (by the fields of its With) its first one, and then
// how many more there were. flush writes what was held back; it may be called at any time, and twice.
func Limit(out zapcore.Core) (core zapcore.Core, flush func()) {
	b := &bounded{Core: out, flood: &flood{out: out, messages: map[string]*repeated{}, owned: map[owned]time.Time{}}}
	return b, b.flood.flush
}

// bounded is a core that writes the first lines with a message, and then only how many more there were.
type bounded struct {
	zapcore.Core
	flood  *flood
	fields uint64 // a hash of all that With added
}

// With adds fields; lines are counted together with those of the core without them.
func (b *bounded) With(fields []zapcore.Field) zapcore.Core {
	return &bounded{Core: b.Core.With(fields), flood: b.flood, fields: maphash.String(seed, fmt.Sprint(b.fields, fields))}
}

var seed = maphash.MakeSeed()

// Check adds the core to what writes the entry, unless there were too many like it.
func (b *bounded) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !b.Enabled(e.Level) || !b.flood.admit(e, b.fields) {
		return checked
	}
	return checked.AddCore(e, b.Core)
}

// flood counts lines by their message.
type flood struct {
	out zapcore.Core

	mu       sync.Mutex
	messages map[string]*repeated
	owned    map[owned]time.Time // when a logger last wrote a message as its own
	swept    time.Time           // when owned was last looked through
}

// owned is a message of the logger with these fields.
type owned struct {
	message string
	fields  uint64
}

// repeated is what happened to one message within its window, which the timer ends.
type repeated struct {
	level         zapcore.Level
	written, held int
	timer         *time.Timer
}

// admit tells whether the entry is among the first of its window, or the first of its logger. Messages are constant here, so that there are few.
func (f *flood) admit(e zapcore.Entry, fields uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.messages[e.Message]
	if r == nil {
		r = &repeated{level: e.Level}
		r.timer = time.AfterFunc(window, func() { f.end(e.Message) })
		f.messages[e.Message] = r
	}
	own := f.own(owned{e.Message, fields}, e.Time)
	if r.written >= equalLines && !own {
		r.held++
		return false
	}
	r.written++
	return true
}

// own tells whether a logger has not written its message for long.
func (f *flood) own(o owned, now time.Time) bool {
	if last, ok := f.owned[o]; ok && now.Sub(last) < ownLine {
		return false
	}
	if len(f.owned) >= owners && now.Sub(f.swept) >= sweepEvery {
		f.swept = now
		maps.DeleteFunc(f.owned, func(_ owned, last time.Time) bool { return now.Sub(last) >= ownLine })
	}
	if len(f.owned) >= owners {
		return false
	}
	f.owned[o] = now
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
