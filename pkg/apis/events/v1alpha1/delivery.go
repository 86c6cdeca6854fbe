package v1alpha1

import (
	"fmt"
	"time"
)

// How an event is delivered when a DeliverySpec does not say.
const (
	DefaultRetry         = 10
	DefaultTimeout       = 30 * time.Second
	DefaultBackoffDelay  = 200 * time.Millisecond
	DefaultRetryAfterMax = time.Minute
)

const (
	maxRetry   = 1000
	maxBackoff = time.Minute
)

// DeliveryPolicy is a DeliverySpec, parsed, with the defaults in place of what it leaves out.
//
// +k8s:deepcopy-gen=false
type DeliveryPolicy struct {
	Retry         int
	Timeout       time.Duration
	Linear        bool
	BackoffDelay  time.Duration
	RetryAfterMax time.Duration
	KeyOrder      bool
}

// Policy parses d; nil is all defaults. A valid spec has no error.
func (d *DeliverySpec) Policy() (DeliveryPolicy, error) {
	p := DeliveryPolicy{
		Retry:         DefaultRetry,
		Timeout:       DefaultTimeout,
		BackoffDelay:  DefaultBackoffDelay,
		RetryAfterMax: DefaultRetryAfterMax,
	}
	if d == nil {
		return p, nil
	}
	if d.Retry != nil {
		p.Retry = int(*d.Retry)
	}
	p.KeyOrder = d.Ordering != nil && *d.Ordering == OrderingKey
	p.Linear = d.BackoffPolicy != nil && *d.BackoffPolicy == BackoffPolicyLinear
	for _, f := range []struct {
		name string
		text *string
		to   *time.Duration
	}{
		{"timeout", d.Timeout, &p.Timeout},
		{"backoffDelay", d.BackoffDelay, &p.BackoffDelay},
		{"retryAfterMax", d.RetryAfterMax, &p.RetryAfterMax},
	} {
		if f.text == nil {
			continue
		}
		parsed, err := ParseDuration(*f.text)
		if err != nil {
			return DeliveryPolicy{}, fmt.Errorf("%s: %w", f.name, err)
		}
		*f.to = parsed
	}
	return p, nil
}

func (d *DeliverySpec) validate(r report) {
	if d == nil {
		return
	}
	if d.Retry != nil && (*d.Retry < 0 || *d.Retry > maxRetry) {
		r.field("retry").errorf("%d is out of range: retry from 0 (never) to %d times", *d.Retry, maxRetry)
	}
	if d.Timeout != nil {
		r.field("timeout").duration(*d.Timeout, time.Millisecond, 0)
	}
	if d.BackoffPolicy != nil && *d.BackoffPolicy != BackoffPolicyLinear && *d.BackoffPolicy != BackoffPolicyExponential {
		r.field("backoffPolicy").errorf("%q is not a policy: use linear or exponential", *d.BackoffPolicy)
	}
	if d.Ordering != nil && *d.Ordering != OrderingNone && *d.Ordering != OrderingKey {
		r.field("ordering").errorf("%q is not an order: use none or key", *d.Ordering)
	}
	if d.BackoffDelay != nil {
		delay, ok := r.field("backoffDelay").duration(*d.BackoffDelay, 0, 0)
		if ok && delay > maxBackoff {
			r.field("backoffDelay").warnf("%s is more than the longest wait: every wait will be %s", *d.BackoffDelay, short(maxBackoff))
		}
	}
	if d.RetryAfterMax != nil {
		r.field("retryAfterMax").duration(*d.RetryAfterMax, 0, 0)
	}
}
