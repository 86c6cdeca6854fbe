package jetstream

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/openfunction/events/pkg/gateway/bus"
)

func (s *subscription) hand(d *delivery) {
	s.mu.Lock()
	d.handed = true
	s.handed++
	s.mu.Unlock()
	s.receive(bus.NewMessage(bus.Message{
		Event: d.event, Malformed: d.err, Topic: d.topic, Stored: d.stored, Sequence: d.sequence,
	}, func(err error) { s.done(d, err) }))
}

// done is what Done of a message does.
func (s *subscription) done(d *delivery, err error) {
	s.mu.Lock()
	m := d.msg
	d.part.release(d, err == nil)
	if s.handed--; s.handed == 0 {
		select {
		case s.idle <- struct{}{}:
		default:
		}
	}
	s.mu.Unlock()
	<-s.slots
	s.Room.Leave(d.size)
	// An error means that the connection is gone. The server then sends the message again; if it was done, take recognises it.
	if err == nil {
		_ = m.Ack()
	} else {
		_ = m.NakWithDelay(again)
	}
}

// take is called with what the server sends, in order.
func (s *subscription) take(p *part, m jetstream.Msg, closed <-chan struct{}) {
	meta, err := m.Metadata()
	if err != nil {
		return // not a message of a stream
	}
	d := &delivery{part: p, topic: m.Subject(), sequence: meta.Sequence.Stream, stored: meta.Timestamp, msg: m}
	s.mu.Lock()
	if s.ending {
		s.mu.Unlock()
		_ = m.Nak()
		return
	}
	known, gathering := p.hold(d), p.gathering
	s.mu.Unlock()
	switch known {
	case isHeld:
		return
	case isDone:
		_ = m.Ack()
		return
	}
	if d.event, d.err = decode(m.Headers(), m.Data()); d.err != nil {
		d.event = bus.Wrap(m.Subject(), d.sequence, d.stored, m.Data())
	}
	// Nothing is read from the server while there is no room; what waits in the connection has a bound, see maxPull. What is gathered must all be
	// here before any of it is Done and makes room: it takes the room that there is not. Another process had it all, so it has the same bounds.
	d.size = int64(len(m.Data())) + overhead
	if gathering {
		s.Room.Take(d.size)
	}
	if gathering || s.Room.Wait(d.size, closed) {
		select {
		case s.queue <- d:
			return
		case <-closed:
			s.Room.Leave(d.size)
		}
	}
	s.mu.Lock()
	p.release(d, false)
	s.mu.Unlock()
	_ = m.Nak()
}

func (s *subscription) onError(lost chan<- error) jetstream.ConsumeErrHandler {
	return func(_ jetstream.ConsumeContext, err error) {
		if errors.Is(err, jetstream.ErrConsumerLeadershipChanged) {
			return // nats.go asks the new leader
		}
		if errors.Is(err, nats.ErrNoResponders) {
			err = errNoConsumer
		}
		select {
		case lost <- err:
		default:
		}
	}
}

// keepAlive tells the server every now and then that what is held is being worked on.
func (s *subscription) keepAlive(dead <-chan struct{}) {
	ticker := time.NewTicker(s.b.o.Config.AckWait / 3)
	defer ticker.Stop()
	for {
		select {
		case <-dead:
			return
		case <-ticker.C:
		}
		l := s.b.current.Load()
		if l == nil {
			continue
		}
		for _, m := range s.held() {
			_ = m.InProgress()
		}
	}
}

func (s *subscription) held() []jetstream.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []jetstream.Msg
	for _, p := range s.parts {
		for _, d := range p.held {
			list = append(list, d.msg)
		}
	}
	return list
}

// drain gives back what was not handed over, waits for the rest, and gives back what is not Done in time.
func (s *subscription) drain() {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	s.giveBack(func(d *delivery) bool { return !d.handed })
	timer := time.NewTimer(s.Grace)
	defer timer.Stop()
	for s.busy() {
		select {
		case <-s.idle:
			continue
		case <-timer.C:
		case <-s.b.ctx.Done():
		}
		break
	}
	s.giveBack(func(*delivery) bool { return true })
	if l := s.b.current.Load(); l != nil {
		_ = l.nc.FlushTimeout(settle) // so that another member gets what was given back
	}
}

func (s *subscription) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handed > 0
}

func (s *subscription) giveBack(which func(*delivery) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		for _, d := range p.held {
			if which(d) {
				p.release(d, false)
				_ = d.msg.Nak()
			}
		}
	}
}
