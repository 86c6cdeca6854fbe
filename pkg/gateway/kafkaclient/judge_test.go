package kafkaclient

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/openfunction/events/pkg/plan"
)

func TestCommitsAreJudged(t *testing.T) {
	const fails, works = "offsets cannot be committed, so a restart repeats all since", "offsets are committed again"
	refused := Explain(fmt.Errorf("commit offset of partition 0: %w", sarama.ErrTopicAuthorizationFailed), plan.KafkaAccess{Brokers: []string{"k:9092"}})
	type step struct {
		after time.Duration
		err   error
		said  bool
		want  string // what is said, "" for nothing
	}
	for _, tt := range []struct {
		name  string
		steps []step
		says  []string // the last line besides its message
	}{
		{"all is well", []step{{}, {}}, nil},
		{"what the brokers refuse is told at once, and once", []step{{err: refused, want: fails}, {after: time.Hour, err: refused}, {want: works}, {}},
			nil},
		{"and says itself what to do", []step{{err: refused, want: fails}}, []string{"TOPIC_AUTHORIZATION_FAILED", "allow it"}},
		{"so is what their settings do not let through", []step{{err: sarama.ErrOffsetMetadataTooLarge, want: fails}}, []string{"offset.metadata.max.bytes of the brokers to 4096"}},
		{"what may pass is told when it does not", []step{{err: sarama.ErrNotEnoughReplicas}, {after: Patience - 1, err: sarama.ErrNotEnoughReplicas},
			{after: 1, err: sarama.ErrNotEnoughReplicas, want: fails}}, []string{"__consumer_offsets", "min.insync.replicas"}},
		{"a broker that hangs up may be about to start", []step{{err: &Refusal{Guess: true}}, {after: Patience, err: &Refusal{Guess: true}, want: fails}}, nil},
		{"what has passed does not count", []step{{err: errors.New("eof")}, {after: Patience - 1}, {err: errors.New("eof")}, {after: Patience - 1, err: errors.New("eof")}}, nil},
		{"nor does what somebody else says", []step{{err: errors.New("eof")}, {after: time.Hour, err: errors.New("eof"), said: true},
			{err: errors.New("eof")}, {after: Patience, err: errors.New("eof"), want: fails}}, nil},
		{"nor that the group is shared out", []step{{err: sarama.ErrRebalanceInProgress}, {after: time.Hour, err: sarama.ErrIllegalGeneration}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, seen := observer.New(zap.InfoLevel)
				c := &Committer{}
				for i, s := range tt.steps {
					time.Sleep(s.after)
					c.Judge(zap.New(core).Sugar(), s.err, s.said)
					got, context := "", ""
					for _, line := range seen.TakeAll() {
						got += line.Message
						context = fmt.Sprint(line.ContextMap())
					}
					if got != s.want {
						t.Errorf("after step %d it says %q, want %q", i, got, s.want)
					}
					for _, want := range tt.says {
						if s.want != "" && !strings.Contains(context, want) {
							t.Errorf("it says %s, want %s", context, want)
						}
					}
				}
			})
		})
	}
}
