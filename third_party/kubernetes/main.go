// Command kube is a Kubernetes for tests: API server, controller manager, etcd, a node and kubectl in one binary, on loopback only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // for the time zones of CronJobs

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"

	"github.com/openfunction/events/third_party/kubernetes/node"
)

const usage = `usage:
  kube cluster --dir DIR [-- flags of kube-apiserver]
                           a new cluster, until SIGINT or SIGTERM; SIGHUP starts again what was killed
  kube kubectl ...         kubectl
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	name := os.Args[1]
	os.Args = os.Args[1:]
	switch name {
	case "cluster":
		exit(until(clusterCommand))
	case "etcd":
		exit(until(etcdCommand))
	case "node":
		exit(until(nodeCommand))
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllers.NewControllerManagerCommand()))
	case "kubectl":
		os.Exit(cli.Run(cmd.NewDefaultKubectlCommand()))
	}
	fmt.Fprint(os.Stderr, usage)
	os.Exit(2)
}

// until runs a command with a context that ends with SIGINT or SIGTERM.
func until(command func(context.Context, []string) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return command(ctx, os.Args[1:])
}

func exit(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "kube:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func clusterCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	dir := flags.String("dir", "", "where the cluster keeps its files; those of an earlier cluster are removed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return errors.New("cluster: --dir is missing")
	}
	c, err := newCluster(*dir, flags.Args())
	if err != nil {
		return err
	}
	return c.run(ctx)
}

func nodeCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("node", flag.ContinueOnError)
	dir := flags.String("dir", "", "the cluster's directory")
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return node.Run(ctx, node.Options{Name: "local", Dir: *dir, Config: config})
}
