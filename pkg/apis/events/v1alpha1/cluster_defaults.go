package v1alpha1

import (
	"context"
	"time"

	"knative.dev/pkg/apis"
)

// Defaults are what a cluster has in place of our own defaults, for objects that leave them out. What is zero stays as it is without them.
//
// +k8s:deepcopy-gen=false
type Defaults struct {
	// EventBus is the name of the bus that carries what names no bus.
	EventBus string
	// Window of Triggers, a duration.
	Window string
	// Retry, Timeout and BackoffDelay are those of a DeliverySpec.
	Retry        *int32
	Timeout      *string
	BackoffDelay *string
}

// Validate checks d by the rules for the fields that it fills in. Paths are the keys of the ConfigMap that holds them.
func (d Defaults) Validate() *apis.FieldError {
	r := newReport()
	if d.EventBus != "" {
		r.field("event-bus").name(d.EventBus)
	}
	if d.Window != "" {
		r.field("window").duration(d.Window, minWindow, maxWindow)
	}
	between(r.field("delivery.retry"), d.Retry, 0, maxRetry)
	if d.Timeout != nil {
		r.field("delivery.timeout").duration(*d.Timeout, time.Millisecond, 0)
	}
	if d.BackoffDelay != nil {
		r.field("delivery.backoff-delay").duration(*d.BackoffDelay, 0, maxBackoff)
	}
	return r.result()
}

type defaultsKey struct{}

// WithDefaults returns a context in which SetDefaults fills in d.
func WithDefaults(ctx context.Context, d Defaults) context.Context {
	return context.WithValue(ctx, defaultsKey{}, d)
}

type storedKey struct{}

// Stored returns a context in which SetDefaults fills in what is to be stored. It leaves the elements of lists alone: kubectl apply and others
// compare a list as a whole with the one that a user wrote. The cluster's defaults of deliveries, which are for elements of lists too, are stored
// nowhere. Who reads the object fills in the rest.
func Stored(ctx context.Context) context.Context { return context.WithValue(ctx, storedKey{}, true) }

func isStored(ctx context.Context) bool { return ctx.Value(storedKey{}) != nil }

// defaultsFrom returns the defaults of a context, with our own in place of what it leaves out.
func defaultsFrom(ctx context.Context) Defaults {
	d, _ := ctx.Value(defaultsKey{}).(Defaults)
	setDefault(&d.EventBus, defaultBus)
	setDefault(&d.Window, "60s")
	return d
}

// setDelivery leaves a spec that is nil so when there is nothing to say.
func (d Defaults) setDelivery(spec **DeliverySpec) {
	if d.Retry == nil && d.Timeout == nil && d.BackoffDelay == nil {
		return
	}
	setDefaultPointer(spec, DeliverySpec{})
	setDefaultCopy(&(*spec).Retry, d.Retry)
	setDefaultCopy(&(*spec).Timeout, d.Timeout)
	setDefaultCopy(&(*spec).BackoffDelay, d.BackoffDelay)
}

func setDefaultCopy[T any](field **T, value *T) {
	if value != nil {
		setDefaultPointer(field, *value)
	}
}
