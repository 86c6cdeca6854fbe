package jetstream_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway/bus"
	"github.com/openfunction/events/pkg/gateway/bus/jetstream"
)

// BenchmarkPublishConsume publishes from many goroutines to a server in this process, on disk, and waits until a subscription got all.
func BenchmarkPublishConsume(b *testing.B) {
	s := newBroker(b, false)
	js := jetstream.New(logging.WithLogger(context.Background(), zap.NewNop().Sugar()), s.options())
	b.Cleanup(func() { _ = js.Close() })
	const name = "openfunction.bench.es.e"
	var received atomic.Int64
	subscribe(b, js, bus.Subscription{Name: "s", Topics: []string{name}}, func(m *bus.Message) {
		m.Done(nil)
		received.Add(1)
	})
	topic := js.Topic(bus.Topic{Name: name})
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
	eventually(b, "all is received", func() bool { return received.Load() >= int64(b.N) })
	b.StopTimer()
	b.ReportMetric(float64(b.N)/published.Seconds(), "published/s")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
