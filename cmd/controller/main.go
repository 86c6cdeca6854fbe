// Command controller reconciles EventSources, EventBuses, ClusterEventBuses and Triggers: it compiles them into plans and runs those.
package main

import (
	"cmp"
	_ "time/tzdata" // Time zones of cron schedules are checked here, and the image has none.

	"k8s.io/client-go/metadata"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/injection/sharedmain"
	"knative.dev/pkg/signals"

	"github.com/openfunction/events/pkg/reconciler/clustereventbus"
	"github.com/openfunction/events/pkg/reconciler/eventbus"
	"github.com/openfunction/events/pkg/reconciler/eventsource"
	"github.com/openfunction/events/pkg/reconciler/gateway"
	"github.com/openfunction/events/pkg/reconciler/objects"
	"github.com/openfunction/events/pkg/reconciler/trigger"
	"github.com/openfunction/events/pkg/reconciler/workload"
)

func main() {
	// A thousand objects are looked at within seconds of a start. Most of the time goes into waiting: for gateways to report, and for the API
	// server, which takes half a second for a Role and as long for its binding while it makes sure that we may give the right.
	controller.DefaultThreadsPerController = 32
	config := injection.ParseAndGetRESTConfigOrDie()
	config.QPS, config.Burst = cmp.Or(config.QPS, 100), cmp.Or(config.Burst, 200)

	ctx, secrets := objects.WithSecrets(workload.WithSelectors(signals.NewContext()), metadata.NewForConfigOrDie(config))
	go secrets.Run(ctx.Done())

	sharedmain.MainWithConfig(ctx, "controller", config,
		eventbus.NewController,
		clustereventbus.NewController,
		eventsource.NewController,
		trigger.NewController,
		gateway.NewController,
	)
}
