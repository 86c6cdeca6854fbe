package main

import (
	"github.com/dapr/components-contrib/pubsub"
	"github.com/dapr/components-contrib/pubsub/jetstream"
	"github.com/dapr/components-contrib/pubsub/kafka"
	"github.com/dapr/kit/logger"
)

var types = map[string]func(logger.Logger) pubsub.PubSub{
	"pubsub.jetstream": jetstream.NewJetStream,
	"pubsub.kafka":     kafka.NewKafka,
}
