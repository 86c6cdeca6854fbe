package standalone

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"time"
)

const (
	// pollEvery is how often files are looked at. Polling works on every file system, and in containers, where notifications do not.
	pollEvery = 500 * time.Millisecond
	// settle is how long a change must have stayed the same: editors truncate a file before they write it.
	settle = 100 * time.Millisecond
	// racy is for how long after its modification a file may change without a trace in size and time.
	racy = 3 * time.Second
)

// watch calls changed each time the contents of the files at paths differ from before, until ctx is done. It calls it with no call
// in progress and returns after the last one.
func (r *reader) watch(ctx context.Context, paths []string, digestNow [32]byte, changed func()) {
	known, pending := digestNow, digestNow
	var stamp uint64
	quiet := false
	wait := time.NewTimer(pollEvery)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		wait.Reset(pollEvery)
		now, recent := stamps(paths)
		if quiet && !recent && now == stamp {
			continue
		}
		stamp = now
		current := digest(r.readAll(ctx, paths))
		switch {
		case current == known:
			pending, quiet = known, true
		case current != pending:
			pending, quiet = current, false
			wait.Reset(settle)
		default:
			known, quiet = current, true
			changed()
		}
	}
}

// stamps sums up names, sizes and modification times, and tells whether one of them is recent.
func stamps(paths []string) (sum uint64, recent bool) {
	h := fnv.New64a()
	for _, path := range paths {
		names, err := list(path)
		if err != nil {
			fmt.Fprintf(h, "%q %v\n", path, err)
		}
		for _, name := range names {
			if name == stdin {
				continue
			}
			info, err := os.Stat(name)
			if err != nil {
				fmt.Fprintf(h, "%q %v\n", name, err)
				continue
			}
			fmt.Fprintf(h, "%q %d %d\n", name, info.Size(), info.ModTime().UnixNano())
			recent = recent || time.Since(info.ModTime()) < racy
		}
	}
	return h.Sum64(), recent
}
