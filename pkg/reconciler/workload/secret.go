package workload

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/plan"
)

// succession is what the plan of a Secret becomes.
type succession struct {
	next *plan.Plan
	// removed asks the gateways for the IDs of the retired subscriptions that are removed. It is only called if there are some to remove.
	removed func() []string
}

// follow returns the plan that follows last, which may be nil. It does not change last.
func (s succession) follow(last *plan.Plan) *plan.Plan {
	if last != nil && len(last.Retired) > 0 {
		removed := s.removed()
		copied := *last
		copied.Retired = slices.DeleteFunc(slices.Clone(last.Retired), func(r plan.Retired) bool { return slices.Contains(removed, r.ID) })
		last = &copied
	}
	return plan.Succeed(last, s.next)
}

// storedPlan returns the plan in s, as far as this version knows what it says. It is nil when there is none, and when it cannot be read, which
// is logged: what it was cannot be continued.
func storedPlan(ctx context.Context, s *corev1.Secret) *plan.Plan {
	p, err := plan.Recall(s.Data[plan.SecretKey])
	if err != nil {
		logging.FromContext(ctx).Errorw("the plan of a Secret is not read, so subscriptions get names of their own and nothing of it goes on",
			"secret", s.Namespace+"/"+s.Name, "error", err)
		return nil
	}
	return p
}

// TooLargeError says that a plan does not fit into its Secret.
type TooLargeError struct {
	// Namespace and Name are the Secret's.
	Namespace, Name string
	// Objects are those that it has no room for, if it is only some.
	Objects []string
}

func (e *TooLargeError) Error() string {
	of := ""
	if n := len(e.Objects); n > 3 {
		of = fmt.Sprintf(" of %s and %d more", strings.Join(e.Objects[:3], ", "), n-3)
	} else if n > 0 {
		of = " of " + strings.Join(e.Objects, ", ")
	}
	return fmt.Sprintf("the plan of Secret %s/%s takes more than the %d bytes that a Secret can hold, so the one before%s goes on: "+
		"use fewer or shorter CACerts, conditions and events", e.Namespace, e.Name, corev1.MaxSecretSize, of)
}

// fillSecret stores p unless it is what is stored, which is last: another version of gzip is no reason to write.
func fillSecret(s *corev1.Secret, last, p *plan.Plan) error {
	if s.Type == "" {
		s.Type = corev1.SecretTypeOpaque
	}
	if last != nil {
		before, err := plan.JSON(last)
		if err != nil {
			return err
		}
		after, err := plan.JSON(p)
		if err != nil {
			return err
		}
		if bytes.Equal(before, after) {
			if _, err := plan.Decode(s.Data[plan.SecretKey]); err == nil { // otherwise it says more than a gateway of this version understands
				return nil
			}
		}
	}
	data, err := plan.Encode(p)
	if err != nil {
		return err
	}
	if len(data) > corev1.MaxSecretSize {
		return &TooLargeError{Namespace: s.Namespace, Name: s.Name}
	}
	if s.Data == nil {
		s.Data = map[string][]byte{}
	}
	s.Data[plan.SecretKey] = data
	return nil
}
