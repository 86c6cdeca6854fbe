package source

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"go.uber.org/zap"

	"github.com/openfunction/events/pkg/event"
)

func TestHandover(t *testing.T) {
	refusal := event.Permanent(errors.New("no"))
	for name, tt := range map[string]struct {
		answers []error // one for each attempt
		cut     bool    // both contexts are done during the first
		done    bool
		refusal error
		took    time.Duration
	}{
		"taken":                             {answers: []error{nil}, done: true},
		"refused for good":                  {answers: []error{refusal}, done: true, refusal: refusal},
		"tried again, ever later":           {answers: []error{errors.New("a"), errors.New("b"), nil}, done: true, took: 600 * time.Millisecond},
		"left alone for as long as it asks": {answers: []error{&event.Unavailable{After: time.Second}, nil}, done: true, took: time.Second},
		"but not for ever":                  {answers: []error{&event.Unavailable{After: time.Hour}, nil}, done: true, took: maxWait},
		"refused by a dead letter's place that is away": {answers: []error{&event.Unavailable{Err: refusal}, nil}, done: true, took: firstWait},
		"cut off": {answers: []error{refusal}, cut: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				h := &Handover{Log: zap.NewNop().Sugar(), Next: event.HandlerFunc(func(context.Context, *event.Event) error {
					if tt.cut {
						cancel()
					}
					answer := tt.answers[0]
					tt.answers = tt.answers[1:]
					return answer
				})}
				began := time.Now()
				done, refusal := h.Handle(ctx, ctx, &event.Event{Context: &cloudevents.EventContextV1{}})
				if took := time.Since(began); done != tt.done || refusal != tt.refusal || took != tt.took || len(tt.answers) > 0 {
					t.Errorf("Handle() = %t, %v after %s with %d answers left; want %t, %v after %s with 0", done, refusal, took, len(tt.answers), tt.done, tt.refusal, tt.took)
				}
			})
		})
	}
}
