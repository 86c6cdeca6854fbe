package main

import (
	"github.com/dapr/components-contrib/pubsub"
	"github.com/dapr/components-contrib/pubsub/natsstreaming"
	"github.com/dapr/kit/logger"
)

var types = map[string]func(logger.Logger) pubsub.PubSub{
	"pubsub.natsstreaming": natsstreaming.NewNATSStreamingPubSub,
}
