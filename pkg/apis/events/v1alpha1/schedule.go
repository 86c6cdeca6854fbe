package v1alpha1

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// cronFields are the fields of a schedule in their order, and how the parser calls them.
var cronFields = []struct {
	name   string
	option cron.ParseOption
}{
	{"second", cron.Second},
	{"minute", cron.Minute},
	{"hour", cron.Hour},
	{"day-of-month", cron.Dom},
	{"month", cron.Month},
	{"day-of-week", cron.Dow},
}

// ParseSchedule reads a schedule: five cron fields, six with seconds first, or a descriptor such as @hourly or @every 5s; in front of
// them CRON_TZ=zone or TZ=zone is allowed when timeZone is empty. Without either it is read in UTC. The ticks of @every d are the
// multiples of d since the Unix epoch, so that every replica, now and after a restart, has the same ones.
func ParseSchedule(schedule, timeZone string) (cron.Schedule, error) {
	spec := strings.TrimSpace(schedule)
	if prefix, rest, ok := cutZone(spec); ok {
		if timeZone != "" {
			return nil, fmt.Errorf("%q names a time zone and timeZone (%s) does too: keep one", schedule, timeZone)
		}
		timeZone, spec = prefix, rest
	}
	location, err := loadZone(timeZone)
	if err != nil {
		return nil, err
	}
	switch {
	case spec == "":
		return nil, errors.New(`is empty: write five cron fields such as "*/5 * * * *", or a descriptor such as @hourly or "@every 5s"`)
	case spec == "@every" || strings.HasPrefix(spec, "@every "):
		return parseEvery(strings.TrimSpace(strings.TrimPrefix(spec, "@every")))
	}
	return parseCron(spec, location)
}

// cutZone splits "CRON_TZ=zone rest".
func cutZone(spec string) (zone, rest string, ok bool) {
	for _, prefix := range []string{"CRON_TZ=", "TZ="} {
		if after, found := strings.CutPrefix(spec, prefix); found {
			zone, rest, _ = strings.Cut(after, " ")
			return zone, strings.TrimSpace(rest), true
		}
	}
	return "", spec, false
}

// loadZone finds a zone of the IANA database; "" is UTC.
func loadZone(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, errors.New(`"Local" is not a time zone: it would differ from machine to machine; use a name such as Europe/Berlin or UTC`)
	}
	location, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not a time zone of the IANA database: use a name such as Europe/Berlin or UTC", name)
	}
	return location, nil
}

func parseCron(spec string, location *time.Location) (cron.Schedule, error) {
	if !strings.HasPrefix(spec, "@") {
		if err := checkFields(spec, strings.Fields(spec)); err != nil {
			return nil, err
		}
	}
	parser := cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	// The prefix keeps the parser from looking for one in spec: it panics when nothing follows it.
	parsed, err := parser.Parse("TZ=UTC " + spec)
	if err != nil {
		return nil, fmt.Errorf("%q is not a descriptor: use @yearly, @monthly, @weekly, @daily, @hourly or @every with a duration", spec)
	}
	s, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("%q is not a schedule of cron fields", spec)
	}
	// The five years that are looked at hold a 29 February.
	if s.Next(time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("%q never fires: no month that it names has such a day", spec)
	}
	s.Location = location
	return fields{s}, nil
}

// fields is a schedule of cron fields.
type fields struct{ schedule *cron.SpecSchedule }

var _ cron.Schedule = fields{}

// Next returns the first tick after t. Where clocks are set back just after midnight the library finds a tick that has passed, and a
// caller that believed it would fire without end: then the search goes on a minute later.
func (f fields) Next(t time.Time) time.Time {
	for from := t; from.Sub(t) < 48*time.Hour; from = from.Add(time.Minute) {
		if next := f.schedule.Next(from); next.IsZero() || next.After(t) {
			return next
		}
	}
	return time.Time{}
}

// checkFields parses field by field, so that an error names the field.
func checkFields(spec string, fields []string) error {
	if len(fields) != 5 && len(fields) != 6 {
		return fmt.Errorf(`%q has %d fields, but a schedule has five (minute, hour, day-of-month, month, day-of-week), or six with seconds first: write for example "*/5 * * * *"`, spec, len(fields))
	}
	for i, field := range fields {
		kind := cronFields[i+6-len(fields)]
		if strings.Trim(field, ",") == "" {
			return fmt.Errorf("%q: the %s field %q names no value: write * for any", spec, kind.name, field)
		}
		if _, err := cron.NewParser(kind.option).Parse("TZ=UTC " + field); err != nil {
			return fmt.Errorf("%q: the %s field %q is wrong: %s", spec, kind.name, field, fieldReason(err))
		}
	}
	return nil
}

// fieldReason keeps of the parser's error what a person needs.
func fieldReason(err error) string {
	reason, _, _ := strings.Cut(err.Error(), ": ")
	if rest, ok := strings.CutPrefix(reason, "failed to parse int from "); ok {
		return fmt.Sprintf("%q is not a number", rest)
	}
	return reason
}

func parseEvery(period string) (cron.Schedule, error) {
	if period == "" {
		return nil, errors.New(`"@every" has no duration: write for example "@every 5s"`)
	}
	d, err := ParseDuration(period)
	if err != nil {
		return nil, fmt.Errorf("@every: %w", err)
	}
	if d < time.Second {
		return nil, fmt.Errorf("@every %s is too often: the least is 1s", period)
	}
	return every(d), nil
}

// every fires at the multiples of its period since the Unix epoch.
type every time.Duration

var _ cron.Schedule = every(0)

// Next returns the first multiple after t.
func (e every) Next(t time.Time) time.Time {
	period := int64(e)
	since := t.UnixNano() % period
	if since < 0 {
		since += period
	}
	return t.Add(time.Duration(period - since)).Round(0)
}
