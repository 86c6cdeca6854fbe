package kafka

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
)

// progress is what is done of a partition: everything before next but the offsets that are open.
type progress struct {
	next int64
	open []int64 // ascending
}

// offset is what a consumer group commits: everything before it is done.
func (p *progress) offset() int64 {
	if len(p.open) > 0 {
		return p.open[0]
	}
	return p.next
}

// reach opens the offset and makes all between what was reached and it done: Kafka has nothing there any more.
func (p *progress) reach(offset int64) {
	p.open = append(p.open, offset)
	p.next = offset + 1
}

func (p *progress) isOpen(offset int64) bool {
	_, ok := slices.BinarySearch(p.open, offset)
	return ok
}

func (p *progress) done(offset int64) {
	if i, ok := slices.BinarySearch(p.open, offset); ok {
		p.open = slices.Delete(p.open, i, i+1)
	}
}

const (
	metadataVersion = "1"
	// maxMetadata is the brokers' default for offset.metadata.max.bytes.
	maxMetadata = 4096
	// maxRuns bounds the bytes that tell what is done, so that metadata holds them as text with the version and the holder.
	maxRuns = (maxMetadata - 64) / 4 * 3
)

// fits tells whether the metadata has room for p after it has reached the offset, whatever of it is done by then.
func (p *progress) fits(offset int64) bool {
	span := uint64(offset + 1 - p.offset())
	digits := max(1, (bits.Len64(span)+6)/7)
	return (len(p.open)+1)*digits <= maxRuns
}

// metadata is what is done beyond the offset, and who says so: the version, the holder, and the distances from each open offset to the
// next one and from the last to next. Those that have no room within limit are left out, and then nothing from there on is done for
// whoever reads it.
func (p *progress) metadata(holder string, limit int) string {
	text := metadataVersion + " " + holder
	if len(text) > limit {
		return ""
	}
	var runs []byte
	for i, offset := range p.open {
		following := p.next
		if i+1 < len(p.open) {
			following = p.open[i+1]
		}
		more := binary.AppendUvarint(runs, uint64(following-offset))
		if len(text)+1+base64.RawStdEncoding.EncodedLen(len(more)) > limit {
			break
		}
		runs = more
	}
	if len(runs) == 0 {
		return text
	}
	return text + " " + base64.RawStdEncoding.EncodeToString(runs)
}

// parseProgress is the opposite of offset and metadata. Without metadata, as another tool commits, nothing is done beyond the offset.
func parseProgress(offset int64, metadata string) (p progress, holder string, err error) {
	p.next = offset
	if metadata == "" {
		return p, "", nil
	}
	version, rest, _ := strings.Cut(metadata, " ")
	if version != metadataVersion {
		return p, "", fmt.Errorf("metadata %.20q is of an unknown version", metadata)
	}
	holder, text, _ := strings.Cut(rest, " ")
	runs, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return p, "", fmt.Errorf("metadata: %w", err)
	}
	all := p
	for len(runs) > 0 {
		distance, n := binary.Uvarint(runs)
		if n <= 0 || distance == 0 || distance > uint64(math.MaxInt64-all.next) {
			return p, "", errors.New("metadata: its distances make no sense")
		}
		all.open = append(all.open, all.next)
		all.next += int64(distance)
		runs = runs[n:]
	}
	return all, holder, nil
}
