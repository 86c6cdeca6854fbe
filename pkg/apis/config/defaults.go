// Package config reads the settings that a cluster's administrator may change while the system runs.
package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/configmap"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
)

// DefaultsName is the name of the ConfigMap of defaults.
const DefaultsName = "config-defaults"

// NewDefaultsFromConfigMap reads defaults and checks them. A key that is not known is an error: it would be without effect.
func NewDefaultsFromConfigMap(c *corev1.ConfigMap) (*v1alpha1.Defaults, error) {
	var d v1alpha1.Defaults
	for _, key := range slices.Sorted(maps.Keys(c.Data)) {
		value := c.Data[key]
		switch key {
		case "event-bus":
			d.EventBus = value
		case "window":
			d.Window = value
		case "delivery.retry":
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("%s: %q is not a number", key, value)
			}
			retry := int32(n)
			d.Retry = &retry
		case "delivery.timeout":
			d.Timeout = &value
		case "delivery.backoff-delay":
			d.BackoffDelay = &value
		case configmap.ExampleKey:
		default:
			return nil, fmt.Errorf("%s: is not known: use event-bus, window, delivery.retry, delivery.timeout and delivery.backoff-delay", key)
		}
	}
	var wrong []error
	for _, p := range v1alpha1.Flatten(d.Validate()) {
		wrong = append(wrong, errors.New(p.String()))
	}
	if wrong != nil {
		return nil, errors.Join(wrong...)
	}
	return &d, nil
}
