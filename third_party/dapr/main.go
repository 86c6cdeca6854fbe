// Command dapr runs Dapr's own pubsub components, without the sidecar around them.
//
//	dapr check FILE                               starts each Component of the file, and prints its name and what that said
//	dapr subscribe FILE TOPIC [raw]               prints each message as a line of JSON, until it is terminated
//	dapr publish FILE TOPIC CONTENT-TYPE [raw]    publishes what it reads
//
// FILE has YAML documents: Components, and the Secrets that they name. What the sidecar does with data is done here as there: raw is its metadata
// rawPayload, without which what is published is put into a CloudEvent, and what is received has to be one.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	"github.com/dapr/components-contrib/pubsub"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dapr:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	raw := len(args) > 0 && args[len(args)-1] == "raw"
	if raw {
		args = args[:len(args)-1]
	}
	switch {
	case len(args) == 2 && args[0] == "check":
		return check(ctx, args[1])
	case len(args) == 3 && args[0] == "subscribe":
		return with(ctx, args[1], func(c component, p pubsub.PubSub) error { return subscribe(ctx, c, p, args[2], raw) })
	case len(args) == 4 && args[0] == "publish":
		return with(ctx, args[1], func(c component, p pubsub.PubSub) error { return publish(ctx, c, p, args[2], args[3], raw) })
	}
	return fmt.Errorf("arguments %q: see the comment of package main", args)
}

// check starts all at once: each may take a while to find out that nobody is there.
func check(ctx context.Context, path string) error {
	components, err := read(path)
	if err != nil {
		return err
	}
	said := make([]string, len(components))
	var all sync.WaitGroup
	for i, c := range components {
		all.Go(func() { said[i] = c.check(ctx) })
	}
	all.Wait()
	for i, c := range components {
		fmt.Printf("%s: %s\n", c.name, said[i])
	}
	return nil
}

// check returns what starting the component says: where it panics the sidecar ends.
func (c component) check(ctx context.Context) (said string) {
	defer func() {
		if p := recover(); p != nil {
			said = fmt.Sprint("panic: ", p)
		}
	}()
	p, err := c.start(ctx)
	if err != nil {
		return err.Error()
	}
	_ = p.Close()
	return "ok"
}

// with starts the only component of the file.
func with(ctx context.Context, path string, do func(component, pubsub.PubSub) error) error {
	components, err := read(path)
	if err != nil {
		return err
	}
	if len(components) != 1 {
		return fmt.Errorf("%s has %d Components, not one", path, len(components))
	}
	c := components[0]
	p, err := c.start(ctx)
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	defer p.Close()
	return do(c, p)
}

// message is what the sidecar posts to its application.
type message struct {
	// Event is the body.
	Event json.RawMessage `json:"event"`
	// Metadata become headers.
	Metadata map[string]string `json:"metadata"`
}

func subscribe(ctx context.Context, c component, p pubsub.PubSub, topic string, raw bool) error {
	var out sync.Mutex
	err := p.Subscribe(ctx, pubsub.SubscribeRequest{Topic: topic}, func(_ context.Context, m *pubsub.NewMessage) error {
		body := m.Data
		if raw {
			var err error
			if body, err = json.Marshal(pubsub.FromRawPayload(m.Data, topic, c.name)); err != nil {
				return err
			}
		}
		line, err := json.Marshal(message{body, m.Metadata})
		if err != nil {
			return fmt.Errorf("no CloudEvent: %w", err)
		}
		out.Lock()
		defer out.Unlock()
		_, err = fmt.Printf("%s\n", line)
		return err
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", topic, err)
	}
	fmt.Fprintln(os.Stderr, "dapr: subscribed")
	<-ctx.Done()
	return nil
}

func publish(ctx context.Context, c component, p pubsub.PubSub, topic, contentType string, raw bool) error {
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	if !raw {
		if data, err = envelope(c, topic, contentType, data); err != nil {
			return err
		}
	}
	return p.Publish(ctx, &pubsub.PublishRequest{Data: data, PubsubName: c.name, Topic: topic, Metadata: map[string]string{}})
}

// envelope returns the CloudEvent that the sidecar makes of what an application posts to it. What it knows of a trace is in it, and empty if
// that is nothing.
func envelope(c component, topic, contentType string, data []byte) ([]byte, error) {
	if slices.Contains([]string{"application/cloudevents+json", "application/cloudevents+json; charset=utf-8"}, contentType) {
		e, err := pubsub.FromCloudEvent(data, topic, c.name, "", "")
		if err != nil {
			return nil, err
		}
		return json.Marshal(e)
	}
	return json.Marshal(pubsub.NewCloudEventsEnvelope("", "application", "", "", topic, c.name, contentType, data, "", ""))
}
