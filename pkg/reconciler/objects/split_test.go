package objects_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openfunction/events/pkg/apis/events/v1alpha1"
	"github.com/openfunction/events/pkg/plan"
	"github.com/openfunction/events/pkg/reconciler/objects"
	. "github.com/openfunction/events/pkg/reconciler/testing"
)

func TestSplit(t *testing.T) {
	withSink := WithSink(URI("http://sink.example.com"))
	long := strings.Repeat("long-", 10) + "name"
	for _, tt := range []struct {
		name string
		es   *v1alpha1.EventSource
		want map[string]string
	}{
		{"each event that is not http has a workload", EventSource("shop", "es", WithBus("b"), WithCron("tick"), WithKafka("orders", ""), WithHTTP("in")), map[string]string{
			"eventsource-es-cron-tick":    "cron tick; EventBus shop/b",
			"eventsource-es-kafka-orders": "kafka orders; EventBus shop/b",
			"":                            "http in; EventBus shop/b",
		}},
		{"the sink of an EventSource with a bus is served by the gateway", EventSource("shop", "es", WithBus("b"), withSink, WithCron("tick"), WithHTTP("in")), map[string]string{
			"eventsource-es-cron-tick": "cron tick; EventBus shop/b",
			"":                         "http in; sink of openfunction.shop.es.tick; sink of openfunction.shop.es.in; EventBus shop/b",
		}},
		{"but not where a subscription belongs to one process", EventSource("shop", "es", WithBus("single"), withSink, WithCron("tick"), WithHTTP("in")), map[string]string{
			"eventsource-es-cron-tick": "cron tick; EventBus shop/single",
			"eventsource-sink-es":      "sink of openfunction.shop.es.tick; sink of openfunction.shop.es.in; EventBus shop/single",
			"":                         "http in; EventBus shop/single",
		}},
		{"nor is there anything to run there without a sink", EventSource("shop", "es", WithBus("single"), WithCron("tick")), map[string]string{
			"eventsource-es-cron-tick": "cron tick; EventBus shop/single",
			"":                         "",
		}},
		{"whatever kinds an event has", EventSource("shop", "es", WithBus("b"), withSink, WithKafka("e", ""), WithHTTP("e")), map[string]string{
			"eventsource-es-kafka-e": "kafka e; EventBus shop/b",
			"":                       "http e; sink of openfunction.shop.es.e; EventBus shop/b",
		}},
		{"without a bus there is none in the plans", EventSource("shop", "es", withSink, WithCron("tick")), map[string]string{
			"eventsource-es-cron-tick": "cron tick",
			"":                         "",
		}},
		{"each member of a group has a workload, whatever other events are called", EventSource("shop", "es", WithBus("b"),
			WithMQTT("m", 3), WithMQTT("m-1", 1), WithMQTT("alone", 0), withSink), map[string]string{
			"eventsource-es-mqtt-m":     "mqtt m member 0 of 3; EventBus shop/b",
			"eventsource-es-mqtt1-m":    "mqtt m member 1 of 3; EventBus shop/b",
			"eventsource-es-mqtt2-m":    "mqtt m member 2 of 3; EventBus shop/b",
			"eventsource-es-mqtt-m-1":   "mqtt m-1 member 0 of 1; EventBus shop/b",
			"eventsource-es-mqtt-alone": "mqtt alone; EventBus shop/b",
			"":                          "sink of openfunction.shop.es.m; sink of openfunction.shop.es.alone; sink of openfunction.shop.es.m-1; EventBus shop/b",
		}},
		{"names of members are shortened, and told apart", EventSource("shop", long, WithBus("b"), WithMQTT("m", 2)), map[string]string{
			"eventsource-long-long-long-long47ca2223b89195604c463bc1a9ee3f30": "mqtt m member 0 of 2; EventBus shop/b",
			"eventsource-long-long-long-long11dc85b19a93a24781389803878eb230": "mqtt m member 1 of 2; EventBus shop/b",
			"": "",
		}},
		{"a sink that waits is whose it was", EventSource("shop", "es", WithBus("b"), WithSink(Service("shop", "missing")), WithCron("tick")), map[string]string{
			"eventsource-es-cron-tick": "cron tick; EventBus shop/b",
			"eventsource-sink-es":      "waiting sink of openfunction.shop.es.tick",
			"":                         "waiting sink of openfunction.shop.es.tick",
		}},
		{"an event that waits is, too", EventSource("shop", "es", WithBus("missing"), WithCron("tick"), WithHTTP("in")), map[string]string{
			"eventsource-es-cron-tick": "waiting cron tick",
			"":                         "waiting http in",
		}},
		{"long names are shortened, and told apart", EventSource("shop", long, WithBus("b"), WithCron("tick"), WithCron("tock")), map[string]string{
			"eventsource-long-long-long-longe33df2a8d97936355570bbc4702fca80": "cron tick; EventBus shop/b",
			"eventsource-long-long-long-long61fa1958ce2325629167c25a53342448": "cron tock; EventBus shop/b",
			"": "",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := NewWorld(t, tt.es, EventBus("shop", "b"), EventBus("shop", "single", NATSStreaming("topic"))).Ctx
			c, err := objects.NewReader(ctx, noTracker()).EventSource(ctx, tt.es)
			if err != nil {
				t.Fatal(err)
			}
			workloads, shared := objects.Split(tt.es, c.Plan)
			got := map[string]string{"": text(shared)}
			for name, p := range workloads {
				got[name] = text(p)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Split (-want, +got):\n%s", diff)
			}
			declared := map[string]bool{"": true, objects.SinkWorkload(tt.es): true}
			for _, e := range objects.Events(tt.es) {
				for _, w := range e.Workloads {
					declared[w] = true
				}
			}
			for _, name := range slices.Sorted(maps.Keys(got)) {
				if !declared[name] || len(name) > 63 {
					t.Errorf("workload %q is of no event and no sink, or has a name of more than 63 bytes", name)
				}
			}
		})
	}
}

func text(p *plan.Plan) string {
	var parts []string
	for _, s := range p.Sources {
		what := s.Kind + " " + s.Event
		if s.MQTT != nil && s.MQTT.Members > 0 {
			what += fmt.Sprintf(" member %d of %d", s.MQTT.Member, s.MQTT.Members)
		}
		parts = append(parts, what)
	}
	for _, s := range p.Subscribers {
		parts = append(parts, fmt.Sprintf("sink of %s", s.Inputs[0].Topic))
	}
	for _, s := range p.WaitingSources {
		parts = append(parts, "waiting "+s.Kind+" "+s.Event)
	}
	for _, s := range p.Waiting {
		parts = append(parts, "waiting sink of "+s.Inputs[0].Topic)
	}
	for _, b := range p.Buses {
		parts = append(parts, b.Name)
	}
	return strings.Join(parts, "; ")
}
