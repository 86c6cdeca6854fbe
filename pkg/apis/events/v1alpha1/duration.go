package v1alpha1

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// isoDuration has no years and months, which have no fixed length. Its numbers are short enough not to overflow.
var isoDuration = regexp.MustCompile(`^P(?:(\d{1,4})W)?(?:(\d{1,5})D)?(?:T(?:(\d+(?:[.,]\d+)?)H)?(?:(\d+(?:[.,]\d+)?)M)?(?:(\d+(?:[.,]\d+)?)S)?)?$`)

// ParseDuration reads a duration as Go writes it (60s, 1m30s) or as ISO 8601 does (PT60S, PT1M30S, P1D), with any fraction and no sign.
// A day is 24 hours.
func ParseDuration(s string) (time.Duration, error) {
	if strings.HasPrefix(s, "P") {
		return parseISODuration(s)
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			return 0, fmt.Errorf("%q has no unit: write %ss for seconds", s, s)
		}
		return 0, fmt.Errorf("%q is not a duration: write one such as 30s, 1m30s or PT30S", s)
	}
	if d < 0 {
		return 0, fmt.Errorf("%q is negative: a duration is zero or more", s)
	}
	return d, nil
}

func parseISODuration(s string) (time.Duration, error) {
	m := isoDuration.FindStringSubmatch(s)
	if m == nil || s == "P" || strings.HasSuffix(s, "T") {
		return 0, fmt.Errorf("%q is not an ISO 8601 duration in weeks, days, hours, minutes and seconds: write one such as PT30S, PT1M30S or P1D", s)
	}
	weeks, _ := strconv.Atoi(m[1]) // The expression admits digits or nothing.
	days, _ := strconv.Atoi(m[2])
	text := fmt.Sprintf("%dh", 24*(7*weeks+days))
	for i, unit := range []string{"h", "m", "s"} {
		if n := m[3+i]; n != "" {
			text += strings.ReplaceAll(n, ",", ".") + unit
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is too long for a duration: it ends at 292 years", s)
	}
	return d, nil
}

// duration checks a duration between limits and reports whether it is one. A zero max is no limit.
func (r report) duration(s string, least, most time.Duration) (time.Duration, bool) {
	d, err := ParseDuration(s)
	switch {
	case err != nil:
		r.errorf("%v", err)
	case d < least:
		r.errorf("%s is too short: the least is %s", s, short(least))
	case most > 0 && d > most:
		r.errorf("%s is too long: the most is %s", s, short(most))
	default:
		return d, true
	}
	return 0, false
}

// short writes a duration as a person does: 1h, not 1h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
