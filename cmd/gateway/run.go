package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/gateway"
	"github.com/openfunction/events/pkg/gateway/feed"
	"github.com/openfunction/events/pkg/plan"
)

// run runs the gateway until ctx is done and it has drained.
func run(ctx context.Context, e env) error {
	log, flush, err := newLogger(e.LogLevel)
	if err != nil {
		return err
	}
	defer flush()
	o, err := e.options()
	if err != nil {
		return err
	}
	kube, err := client()
	if err != nil {
		return err
	}
	plans, err := feed.New(feed.Options{Secret: e.PlanSecret, Kube: kube, File: e.PlanFile})
	if err != nil {
		return err
	}
	if e.Retire {
		o.AtEnd = plans.Gone
	}
	ctx = logging.WithLogger(ctx, log)
	g, err := gateway.New(ctx, o)
	if err != nil {
		return err
	}
	// It goes on while the gateway drains, since what it hears then tells whether the Secret is gone.
	feeding, stop := context.WithCancel(context.WithoutCancel(ctx))
	var fed sync.WaitGroup
	fed.Go(func() {
		plans.Run(feeding, func(p *plan.Plan) error { return apply(g, p) }, func(err error) {
			g.SetError(err)
			log.Errorw("plan is not applied, the one before goes on", "error", err)
		})
	})
	log.Infow("gateway runs", "plan", e.PlanSecret, "ingress", g.Addr(), "admin", g.AdminAddr(), "metrics", g.MetricsAddr())
	err = g.Run(ctx)
	stop()
	fed.Wait()
	log.Infow("gateway has drained")
	return err
}

// apply applies p, which is no use any more once the gateway drains.
func apply(g *gateway.Gateway, p *plan.Plan) error {
	if err := g.Apply(p); !errors.Is(err, gateway.ErrClosed) {
		return err
	}
	return nil
}

func (e env) options() (gateway.Options, error) {
	if e.Ready != "flowing" && e.Ready != "serving" {
		return gateway.Options{}, fmt.Errorf("READY %q: want flowing or serving", e.Ready)
	}
	o := gateway.Options{
		Listen: e.Listen, Admin: e.AdminListen, Metrics: e.MetricsListen, Instance: cmp.Or(e.Instance, e.PodName),
		Serving: e.Ready == "serving", Lenient: true,
	}
	if e.Listen != "" {
		o.Lag = e.DrainLag
	}
	return o, nil
}

// client returns the API server of the pod, or that of KUBECONFIG outside of one.
func client() (kubernetes.Interface, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}
