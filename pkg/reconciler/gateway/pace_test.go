package gateway

import (
	"testing"
	"time"
)

func TestPassesTakeTheirShareOfTheTime(t *testing.T) {
	var p pace
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	wants := func(now, want int) {
		t.Helper()
		if got := p.rest(at(now)); max(got, 0) != time.Duration(want)*time.Second {
			t.Errorf("at %d s it rests for %s, want %d s", now, got, want)
		}
	}
	wants(100, 0)
	end := p.begin(at(100))
	wants(101, 0)
	end(at(102))
	wants(102, 2*share-2)
	wants(102+2*share, 0)
	end = p.begin(at(200))
	wants(201, 2*share-1) // as long as the one before, it seems
	end(at(201))
	wants(201, share-1)
}
