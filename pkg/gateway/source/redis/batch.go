package redis

// batchBytes is about how much is asked for at once.
const batchBytes = 1 << 20

// batch is how many entries to ask for at once. It begins with one, grows while entries are small, and shrinks when they are large: they are
// in memory, all of them, before the first is handled, and after a crash they come again.
type batch int

// of returns how many of the free hands to ask for.
func (b batch) of(free int) int { return max(1, min(free, int(b))) }

// saw notes what came.
func (b *batch) saw(entries, bytes int) {
	switch {
	case bytes > batchBytes:
		*b = batch(max(1, entries*batchBytes/bytes))
	case entries >= int(*b):
		*b = min(2*max(1, *b), maxInFlight)
	}
}
