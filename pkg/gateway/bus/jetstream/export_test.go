package jetstream

// Grants are the subjects of docs/examples/nats-jetstream.conf, without the topics of subscribers.
var Grants = grants
