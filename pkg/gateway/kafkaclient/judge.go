package kafkaclient

import (
	"errors"
	"time"

	"github.com/IBM/sarama"
	"go.uber.org/zap"
)

// Patience is for how long commits may fail before that is told, if it may pass by itself: the coordinator moves, or its broker starts.
const Patience = 15 * time.Second

// Judge tells, once each, that commits fail and that they work again. It is called after each commit of a member that has partitions, with
// what Explain makes of its error. Said tells that somebody else says what is wrong: that the brokers are away, say.
func (c *Committer) Judge(log *zap.SugaredLogger, err error, said bool) {
	switch {
	case IsMoot(err):
		return
	case err == nil:
		if c.told {
			log.Infow("offsets are committed again")
		}
		c.failing, c.told = time.Time{}, false
		return
	case said:
		c.failing = time.Time{}
	case c.failing.IsZero():
		c.failing = time.Now()
	}
	final, cure := cureOf(err)
	if c.told || said || !final && time.Since(c.failing) < Patience {
		log.Debugw("commit", zap.Error(err))
		return
	}
	c.told = true
	why := []any{zap.Error(err)}
	if cure != "" {
		why = append(why, "cure", cure)
	}
	log.Warnw("offsets cannot be committed, so a restart repeats all since", why...)
}

// cureOf tells whether trying again does not cure err, of a commit, and what does if err itself does not say it.
func cureOf(err error) (final bool, cure string) {
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return !refusal.Guess, ""
	case errors.Is(err, sarama.ErrOffsetMetadataTooLarge), errors.Is(err, sarama.ErrInvalidCommitOffsetSize):
		return true, "set offset.metadata.max.bytes of the brokers to 4096"
	}
	return false, "see whether all partitions of __consumer_offsets have as many replicas in sync as their min.insync.replicas"
}
