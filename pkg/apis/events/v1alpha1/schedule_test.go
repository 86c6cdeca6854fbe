package v1alpha1

import (
	"testing"
	"time"
)

func TestParseSchedule(t *testing.T) {
	for _, tt := range []struct {
		name, schedule, timeZone, after, want string
	}{
		{"five fields tick at second zero", "*/5 * * * *", "", "2026-01-01T00:01:02Z", "2026-01-01T00:05:00Z"},
		{"six fields begin with seconds", "*/10 * * * * *", "", "2026-01-01T00:00:01Z", "2026-01-01T00:00:10Z"},
		{"a descriptor is read in UTC", "@daily", "", "2026-01-01T12:00:00Z", "2026-01-02T00:00:00Z"},
		{"a time zone moves it", "@daily", "Asia/Tokyo", "2026-01-01T12:00:00Z", "2026-01-01T15:00:00Z"},
		{"CRON_TZ is a time zone", "CRON_TZ=Asia/Tokyo 0 0 * * *", "", "2026-01-01T12:00:00Z", "2026-01-01T15:00:00Z"},
		{"TZ is a time zone, before a descriptor too", "TZ=Asia/Tokyo @daily", "", "2026-01-01T12:00:00Z", "2026-01-01T15:00:00Z"},
		{"blanks around do not matter", "  0   0 * * * ", "", "2026-01-01T12:00:00Z", "2026-01-02T00:00:00Z"},
		{"summer time is kept", "0 12 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T10:00:00Z"},
		{"the search goes on where clocks go back at one past midnight", "30 0 * * *", "America/St_Johns", "1999-10-31T03:00:00Z", "1999-10-31T04:00:00Z"},
		{"29 February is waited for", "0 0 29 2 *", "", "2025-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"@every is aligned to the epoch", "@every 7s", "", "1970-01-01T00:00:08Z", "1970-01-01T00:00:14Z"},
		{"@every ticks after a tick, not at it", "@every 5s", "", "2026-01-01T00:00:05Z", "2026-01-01T00:00:10Z"},
		{"@every takes ISO 8601", "@every PT1H", "", "2026-01-01T00:00:05Z", "2026-01-01T01:00:00Z"},
		{"@every may be a fraction", "@every 1.5s", "", "1970-01-01T00:00:01Z", "1970-01-01T00:00:01.5Z"},
		{"@every is the same in all zones", "@every 24h", "Asia/Tokyo", "2026-01-01T12:00:00Z", "2026-01-02T00:00:00Z"},
		{"@every works before the epoch", "@every 10s", "", "1969-12-31T23:59:55Z", "1970-01-01T00:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := ParseSchedule(tt.schedule, tt.timeZone)
			if err != nil {
				t.Fatalf("ParseSchedule(%q, %q): %v", tt.schedule, tt.timeZone, err)
			}
			after, _ := time.Parse(time.RFC3339, tt.after)
			if got := s.Next(after).UTC().Format(time.RFC3339Nano); got != tt.want {
				t.Errorf("Next(%s) = %s, want %s", tt.after, got, tt.want)
			}
		})
	}
}

// TestEveryIgnoresWhenItStarted is what makes the ticks of replicas equal.
func TestEveryIgnoresWhenItStarted(t *testing.T) {
	s, err := ParseSchedule("@every 5s", "")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, time.March, 29, 1, 2, 30, 0, time.UTC)
	want := start.Add(5 * time.Second)
	for late := time.Duration(0); late < 5*time.Second; late += 37 * time.Millisecond {
		if got := s.Next(start.Add(late)); !got.Equal(want) {
			t.Errorf("Next(%v after a tick) = %v, want %v", late, got, want)
		}
	}
}

// FuzzParseSchedule looks for panics and for schedules that have no next tick.
func FuzzParseSchedule(f *testing.F) {
	for _, seed := range []string{"* * * * *", "TZ=", "TZ=UTC", "* * TZ=x * *", "@every", "@every 1s", ", , , , ,", "0 0 31 2,4 ?", "*/0 * * * *", "1-0 * * * *"} {
		f.Add(seed, "")
	}
	from := time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, schedule, timeZone string) {
		s, err := ParseSchedule(schedule, timeZone)
		if err != nil {
			return
		}
		if next := s.Next(from); !next.After(from) {
			t.Errorf("ParseSchedule(%q, %q) fires at %v, which is not after %v", schedule, timeZone, next, from)
		}
	})
}
