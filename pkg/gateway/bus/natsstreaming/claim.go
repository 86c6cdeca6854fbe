package natsstreaming

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/stan.go"
	"github.com/nats-io/stan.go/pb"
)

// claimWithin is how long a process that gets a repeated message waits for another one to claim it.
const claimWithin = 250 * time.Millisecond

// claim is a question to the members of a queue group, and its answer. After the ack wait the server sends a message that is
// worked on to any member; who gets a repeat asks on plain NATS whether another has it. No answer means that nobody has: the one
// who had it is gone, and the message is handed over.
type claim struct {
	Topic    string `json:"topic"`
	Sequence uint64 `json:"sequence"`
	Stored   int64  `json:"stored"`
	// Done is true in an answer when the message was acknowledged, which the server has not noticed.
	Done bool `json:"done,omitempty"`
	// Member is set in another question, by which a member says that it is there and asks who else is, and in its answer.
	Member string `json:"member,omitempty"`
}

func (c claim) place() place {
	return place{topic: c.Topic, sequence: c.Sequence, stored: c.Stored}
}

// claimSubject is where the members of a group ask. NATS Streaming channels cannot clash with it: they travel under their own prefix.
func claimSubject(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return "_OPENFUNCTION.claim." + hex.EncodeToString(h.Sum(nil)[:12])
}

// converse lets f ask and answer on the session; the returned function ends that.
func (f *flow) converse(nc *nats.Conn, subject string) (end func(), err error) {
	inbox := nats.NewInbox()
	answers, err := nc.Subscribe(inbox, func(m *nats.Msg) { f.claimed(m.Data) })
	if err != nil {
		return nil, err
	}
	questions, err := nc.Subscribe(subject, func(m *nats.Msg) {
		if answer := f.answer(m.Data); answer != nil {
			_ = nc.Publish(m.Reply, answer)
		}
	})
	if err != nil {
		_ = answers.Unsubscribe()
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ask = func(p place) {
		question, _ := json.Marshal(claim{Topic: p.topic, Sequence: p.sequence, Stored: p.stored})
		_ = nc.PublishRequest(subject, inbox, question) // unanswered if it does not arrive
	}
	f.who = func() {
		question, _ := json.Marshal(claim{Member: f.member})
		_ = nc.PublishRequest(subject, inbox, question)
	}
	f.who()
	return func() {
		_ = answers.Unsubscribe()
		_ = questions.Unsubscribe()
	}, nil
}

// answer returns the answer to a question, nil if the message is nothing to us.
func (f *flow) answer(question []byte) []byte {
	var c claim
	if json.Unmarshal(question, &c) != nil {
		return nil
	}
	if c.Member != "" {
		if c.Member == f.member {
			return nil
		}
		f.share()
		answer, _ := json.Marshal(claim{Member: f.member})
		return answer
	}
	f.mu.Lock()
	m := f.held[c.place()]
	c.Done = f.recent.has(c.place())
	ours := m != nil && (m.out || !f.ending && time.Now().After(m.readyAt))
	f.mu.Unlock()
	if !ours && !c.Done {
		return nil
	}
	answer, _ := json.Marshal(c)
	return answer
}

// claimed leaves a message to the member that claims it.
func (f *flow) claimed(answer []byte) {
	var c claim
	if json.Unmarshal(answer, &c) != nil {
		return
	}
	if c.Member != "" {
		f.share()
		return
	}
	if handle := f.cede(c.place(), c.Done); handle != nil {
		_ = handle.Ack()
	}
	f.look()
}

// cede forgets a message that was not handed over yet, and returns the handle to acknowledge if it is done.
func (f *flow) cede(p place, done bool) *stan.Msg {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.held[p]
	if m == nil || m.out || m.readyAt.IsZero() {
		return nil
	}
	delete(f.held, p)
	f.queue = without(f.queue, m)
	f.failed = without(f.failed, m)
	if !done {
		return nil
	}
	f.recent.add(p)
	return m.handle
}

func without(list []*message, m *message) []*message {
	for i := range list {
		if list[i] == m {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	return list
}

// nudge makes the server look whether the subscriptions have room. It does not when another member acknowledges what it counts
// as theirs, and would send nothing any more. The acknowledged sequence does not exist.
func nudge(subs []stan.Subscription, topics []string) {
	for i, sub := range subs {
		_ = (&stan.Msg{MsgProto: pb.MsgProto{Subject: topics[i]}, Sub: sub}).Ack()
	}
}
