// Command webhook admits EventSources, EventBuses, ClusterEventBuses and Triggers: it defaults them, and refuses what cannot work.
package main

import (
	"time"
	_ "time/tzdata" // Time zones of cron schedules are checked here, and the image has none.

	"knative.dev/pkg/injection/sharedmain"
	"knative.dev/pkg/signals"
	kwebhook "knative.dev/pkg/webhook"

	"github.com/openfunction/events/pkg/webhook"
)

func main() {
	ctx := kwebhook.WithOptions(signals.NewContext(), kwebhook.Options{
		ServiceName: kwebhook.NameFromEnv(),
		SecretName:  kwebhook.SecretNameFromEnv("events-webhook-certs"),
		Port:        kwebhook.PortFromEnv(8443),
		// The API server may still send requests after a pod was told to end; without any for this long it knows.
		GracePeriod: 10 * time.Second,
	})
	sharedmain.MainWithContext(ctx, kwebhook.NameFromEnv(), webhook.Constructors()...)
}
