// Command gateway runs the plan of one Secret, in a pod.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // Time zones of cron schedules are needed here, and the image has none.

	"github.com/kelseyhightower/envconfig"
)

// env is what the pod says.
type env struct {
	// PlanSecret holds the plan: namespace/name.
	PlanSecret string `envconfig:"PLAN_SECRET" required:"true"`
	// PlanFile is where that Secret is mounted, for a start without the API server. It may be absent.
	PlanFile string `envconfig:"PLAN_FILE"`
	// Listen is the address of the ingress; empty means that there is none.
	Listen string `envconfig:"LISTEN" default:":8080"`
	// AdminListen is the address of probes and the report.
	AdminListen string `envconfig:"ADMIN_LISTEN" default:":8081"`
	// MetricsListen is the address of /metrics.
	MetricsListen string `envconfig:"METRICS_LISTEN" default:":9090"`
	// PodName tells this process apart from others that run the same plan.
	PodName string `envconfig:"POD_NAME" required:"true"`
	// Instance does so in its place where the next pod is to be taken for the same process: there is one at a time.
	Instance string `envconfig:"INSTANCE"`
	// Ready is when the pod is ready: flowing (all of the plan works) or serving (it serves its first plan).
	Ready string `envconfig:"READY" default:"flowing"`
	// Retire says to remove the durable subscriptions when the process ends and the Secret is gone.
	Retire bool `envconfig:"RETIRE"`
	// LogLevel is debug, info, warn, error, or a verbosity from 1 to 9.
	LogLevel string `envconfig:"LOG_LEVEL" default:"info"`
	// DrainLag is how long the ingress serves on while unready: the cluster takes that long to send requests elsewhere.
	DrainLag time.Duration `envconfig:"DRAIN_LAG" default:"3s"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var e env
	err := envconfig.Process("", &e)
	if err == nil {
		err = run(ctx, e)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}
