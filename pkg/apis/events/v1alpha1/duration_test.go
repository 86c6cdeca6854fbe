package v1alpha1

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for _, tt := range []struct {
		text string
		want time.Duration
	}{
		{"60s", time.Minute},
		{"1m30s", 90 * time.Second},
		{"0", 0},
		{"PT60S", time.Minute},
		{"PT0S", 0},
		{"PT0.2S", 200 * time.Millisecond},
		{"PT0,05S", 50 * time.Millisecond},
		{"PT0.25S", 250 * time.Millisecond},
		{"PT4000S", 4000 * time.Second},
		{"PT1.5H", 90 * time.Minute},
		{"P1DT2H3M4S", 26*time.Hour + 3*time.Minute + 4*time.Second},
		{"P2W", 14 * 24 * time.Hour},
	} {
		got, err := ParseDuration(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", tt.text, got, err, tt.want)
		}
	}
}

func TestParseDurationRefuses(t *testing.T) {
	for _, text := range []string{
		"", "60", "-1s", "soon", "P", "PT", "P1DT", "P1M", "P1Y", "-PT1S", "+PT1S", "PT-1S", "PT1S1M", "pt1s", "PT1", "PT.5S",
		"PT99999999999999999999S", "P99999D" + "T9999999H", "9999999h",
	} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, got)
		}
	}
}

func TestPolicy(t *testing.T) {
	text := func(s string) *string { return &s }
	linear, key, retry := BackoffPolicyLinear, OrderingKey, int32(0)
	for _, tt := range []struct {
		name string
		spec *DeliverySpec
		want DeliveryPolicy
	}{
		{"no spec is all defaults", nil, DeliveryPolicy{10, 30 * time.Second, false, 200 * time.Millisecond, time.Minute, false}},
		{"an empty spec is all defaults", &DeliverySpec{}, DeliveryPolicy{10, 30 * time.Second, false, 200 * time.Millisecond, time.Minute, false}},
		{
			"zeros are not replaced by defaults",
			&DeliverySpec{Retry: &retry, Timeout: text("5s"), BackoffPolicy: &linear, BackoffDelay: text("PT0S"), RetryAfterMax: text("PT0S")},
			DeliveryPolicy{0, 5 * time.Second, true, 0, 0, false},
		},
		{"an order", &DeliverySpec{Ordering: &key}, DeliveryPolicy{10, 30 * time.Second, false, 200 * time.Millisecond, time.Minute, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.spec.Policy()
			if err != nil || got != tt.want {
				t.Errorf("Policy() = %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
	if _, err := (&DeliverySpec{Timeout: text("soon")}).Policy(); err == nil {
		t.Error(`Policy() of the timeout "soon": want an error`)
	}
}

func TestSync(t *testing.T) {
	for text, want := range map[string]time.Duration{"": time.Second, "always": 0, "250ms": 250 * time.Millisecond, "PT2S": 2 * time.Second} {
		if got, err := (&EmbeddedSpec{SyncInterval: text}).Sync(); err != nil || got != want {
			t.Errorf("Sync() of %q = %v, %v, want %v", text, got, err, want)
		}
	}
}
