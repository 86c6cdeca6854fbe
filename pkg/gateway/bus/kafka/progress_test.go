package kafka

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testHolder = "ABCDEFGHIJKL"

func (p progress) Equal(o progress) bool { return p.next == o.next && slices.Equal(p.open, o.open) }

func TestProgressSurvivesItsMetadata(t *testing.T) {
	tests := []struct {
		name string
		p    progress
		want string // the metadata
	}{
		{"nothing yet", progress{}, "1 ABCDEFGHIJKL"},
		{"all is done", progress{next: 5000}, "1 ABCDEFGHIJKL"},
		{"one is open", progress{next: 8, open: []int64{7}}, "1 ABCDEFGHIJKL AQ"},
		{"one is open and much is done after it", progress{next: 1 << 40, open: []int64{7}}, "1 ABCDEFGHIJKL +f////8f"},
		{"some are open", progress{next: 20, open: []int64{3, 4, 5, 17}}, "1 ABCDEFGHIJKL AQEMAw"},
	}
	for _, tt := range tests {
		metadata := tt.p.metadata(testHolder, maxMetadata)
		if metadata != tt.want {
			t.Errorf("%s: metadata = %q, want %q", tt.name, metadata, tt.want)
		}
		got, holder, err := parseProgress(tt.p.offset(), metadata)
		if err != nil || holder != testHolder {
			t.Errorf("%s: parseProgress: holder %q, %v; want %q", tt.name, holder, err, testHolder)
		}
		if diff := cmp.Diff(tt.p, got); diff != "" {
			t.Errorf("%s: differs after parseProgress (-want +got):\n%s", tt.name, diff)
		}
	}
}

// What cannot be read must not make anything look done.
func TestUnreadableMetadataMeansNothingIsDone(t *testing.T) {
	for _, metadata := range []string{
		"", "by hand", "2 ABCDEFGHIJKL AQ", "1 ABCDEFGHIJKL !", "1 ABCDEFGHIJKL AA", "1 ABCDEFGHIJKL gA", "1 ABCDEFGHIJKL /////////////w",
	} {
		got, holder, err := parseProgress(42, metadata)
		if diff := cmp.Diff(progress{next: 42}, got); diff != "" || holder != "" {
			t.Errorf("parseProgress(42, %q): holder %q, want none; differs (-want +got):\n%s", metadata, holder, diff)
		}
		if (err == nil) != (metadata == "") {
			t.Errorf("parseProgress(42, %q): error %v", metadata, err)
		}
	}
}

// However messages become done, what is committed has room.
func TestMetadataHasRoom(t *testing.T) {
	for _, doneOutOf100 := range []int{0, 1, 30, 50, 99} {
		random := rand.New(rand.NewPCG(1, uint64(doneOutOf100)))
		p := progress{next: 1 << 33}
		most := 0
		for offset := p.next; offset < 1<<33+200_000 && p.fits(offset); offset += 1 + int64(random.IntN(2)) {
			p.reach(offset)
			if random.IntN(100) < doneOutOf100 {
				p.done(offset)
			}
			if len(p.open)%100 == 0 {
				most = max(most, len(p.metadata(testHolder, maxMetadata)))
			}
		}
		most = max(most, len(p.metadata(testHolder, maxMetadata)))
		if most > maxMetadata {
			t.Errorf("with %d of 100 done the metadata had %d bytes, want at most %d", doneOutOf100, most, maxMetadata)
		}
		if len(p.open) < 256 && doneOutOf100 < 99 {
			t.Errorf("with %d of 100 done there was no room for more than %d open messages", doneOutOf100, len(p.open))
		}
	}
}

// What has no room in metadata must not look done, and what has room must.
func TestShortMetadataMakesLessDone(t *testing.T) {
	p := progress{next: 20000, open: []int64{3, 4, 5, 17, 300, 9000, 9001, 19999}}
	open := -1 // of the limit before
	for limit := range 40 {
		metadata := p.metadata(testHolder, limit)
		got, _, err := parseProgress(p.offset(), metadata)
		if err != nil || len(metadata) > limit || len(got.open) < open {
			t.Fatalf("limit %d: metadata = %q with %d open after %d: %v", limit, metadata, len(got.open), open, err)
		}
		open = len(got.open)
		want := progress{next: 3}
		if open > 0 {
			want = progress{next: append(p.open, p.next)[open], open: p.open[:open]}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("limit %d: differs (-want +got):\n%s", limit, diff)
		}
	}
	if open != len(p.open) {
		t.Errorf("with 39 bytes %d are open, want all %d", open, len(p.open))
	}
}

func FuzzParseProgress(f *testing.F) {
	f.Add(int64(0), "")
	f.Add(int64(3), "1 ABCDEFGHIJKL AQEMAw")
	f.Add(int64(7), "1 ABCDEFGHIJKL +f////8f")
	f.Add(int64(7), "1  ")
	f.Fuzz(func(t *testing.T, offset int64, metadata string) {
		if offset < 0 {
			return // Kafka has none
		}
		p, holder, err := parseProgress(offset, metadata)
		if err != nil && (len(p.open) > 0 || p.next != offset) {
			t.Fatalf("parseProgress(%d, %q) = %+v with an error", offset, metadata, p)
		}
		if p.offset() != offset {
			t.Fatalf("parseProgress(%d, %q) begins at %d", offset, metadata, p.offset())
		}
		if !slices.IsSorted(p.open) || len(p.open) > 0 && p.open[len(p.open)-1] >= p.next {
			t.Fatalf("parseProgress(%d, %q) = %+v, want ascending offsets before next", offset, metadata, p)
		}
		if strings.Contains(holder, " ") || err != nil {
			return
		}
		again, _, err := parseProgress(p.offset(), p.metadata(holder, math.MaxInt))
		if err != nil || !again.Equal(p) {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
	})
}
