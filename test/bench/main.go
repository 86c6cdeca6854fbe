// Command bench measures what an event costs on its way HTTP in, embedded bus on disk, Trigger, HTTP sink, as a share of the same load
// sent straight to the sink in the same run. It prints ratios: absolute numbers are the machine's.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"time"
)

func main() {
	events := flag.Int("events", 20000, "events of one round")
	rounds := flag.Int("rounds", 3, "rounds; the median counts")
	connections := flag.Int("connections", 32, "connections of the load")
	program := flag.String("program", "", "measure this build of the program instead of the tree's")
	flag.Parse()
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "events-bench-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, events: *events, connections: *connections, program: *program}
	if err := b.build(); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d events of 256 bytes a round, %d connections, median of %d rounds\n\n", *events, *connections, *rounds)
	fmt.Printf("%-14s %10s %10s %7s %13s %19s %19s %8s\n", "", "straight/s", "through/s", "share", "cpu µs/event", "publish p50/p99 ms", "end p50/p99 ms", "RSS MiB")
	for _, triggers := range []int{1, 10, 100} {
		if err := b.row(triggers, *rounds); err != nil {
			log.Fatal(err)
		}
	}
	if err := b.slowSink(); err != nil {
		log.Fatal(err)
	}
}

// row measures with this many triggers, of which one listens to the event that is sent.
func (b *bench) row(triggers, rounds int) error {
	p, err := b.start(triggers)
	if err != nil {
		return err
	}
	defer p.stop()
	var straight, through, shares []float64
	before, err := p.cpu()
	if err != nil {
		return err
	}
	for range rounds {
		s, err := b.throughput(b.sink.url)
		if err != nil {
			return err
		}
		t, err := b.throughput(p.url + "/default/bench/e0")
		if err != nil {
			return err
		}
		straight, through, shares = append(straight, s), append(through, t), append(shares, t/s)
	}
	after, err := p.cpu()
	if err != nil {
		return err
	}
	publish, end, err := b.latency(p.url+"/default/bench/e0", median(through)/2, 5*time.Second)
	if err != nil {
		return err
	}
	rss, err := p.rss()
	if err != nil {
		return err
	}
	fmt.Printf("%-14s %10.0f %10.0f %7.3f %13.0f %19s %19s %8.0f\n", fmt.Sprintf("%d triggers", triggers), median(straight), median(through), median(shares),
		float64((after-before).Microseconds())/float64(b.events*rounds), quantiles(publish), quantiles(end), rss)
	return nil
}

// slowSink compares the latency of publishing while the sink is quick and while it takes a second for each event.
func (b *bench) slowSink() error {
	p, err := b.start(1)
	if err != nil {
		return err
	}
	defer p.stop()
	quick, _, err := b.latency(p.url+"/default/bench/e0", 500, 4*time.Second)
	if err != nil {
		return err
	}
	b.sink.delay.Store(int64(time.Second))
	slow, _, err := b.latency(p.url+"/default/bench/e0", 500, 4*time.Second)
	b.sink.delay.Store(0)
	if err != nil {
		return err
	}
	fmt.Printf("\npublish p50/p99 ms at 500 events/s: quick sink %s, sink that takes 1 s %s, p50 ratio %.2f\n",
		quantiles(quick), quantiles(slow), float64(slow[len(slow)/2])/float64(quick[len(quick)/2]))
	return nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func quantiles(sorted []time.Duration) string {
	if len(sorted) == 0 {
		return "-"
	}
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	return fmt.Sprintf("%.1f/%.1f", ms(sorted[len(sorted)/2]), ms(sorted[len(sorted)*99/100]))
}
