package kafka

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/openfunction/events/pkg/gateway/bus"
)

// BenchmarkPublishConsume publishes from many goroutines to a broker in this process, on disk, and waits until a subscription got all.
func BenchmarkPublishConsume(b *testing.B) { publishConsume(b, startBroker(b).addr()) }

func publishConsume(b *testing.B, addr string) {
	k := connect(b, config(addr))
	const name = "openfunction.bench.es.e"
	var received atomic.Int64
	ready := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- k.Subscribe(ctx, bus.Subscription{Name: "s", Topics: []string{name}, Ready: func(err error) {
			if err == nil {
				tell(ready)
			}
		}}, func(m *bus.Message) {
			m.Done(nil)
			received.Add(1)
		})
	}()
	<-ready
	topic := k.Topic(bus.Topic{Name: name})
	data := make([]byte, 512)
	var id atomic.Int64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := topic.Handle(context.Background(), newEvent(b, strconv.FormatInt(id.Add(1), 10), data)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	published := b.Elapsed()
	// An earlier and shorter run of the benchmark may still have something to come.
	eventually(b, "all is received", func() bool { return received.Load() >= int64(b.N) })
	b.StopTimer()
	b.ReportMetric(float64(b.N)/published.Seconds(), "published/s")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}
