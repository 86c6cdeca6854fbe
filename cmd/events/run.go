package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/kelseyhightower/envconfig"
	"knative.dev/pkg/logging"

	"github.com/openfunction/events/pkg/standalone"
)

// runEnv are the defaults of run's options, from the environment.
type runEnv struct {
	// Listen is the address of the ingress.
	Listen string `envconfig:"EVENTS_LISTEN" default:"127.0.0.1:8080"`
	// Metrics is the address of /metrics; empty means that there are none.
	Metrics string `envconfig:"EVENTS_METRICS"`
	// Data is the directory where embedded buses and brokers keep their events; empty means in memory.
	Data string `envconfig:"EVENTS_DATA"`
	// Output is how deliveries are printed: text or json.
	Output string `envconfig:"EVENTS_OUTPUT" default:"text"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `envconfig:"EVENTS_LOG_LEVEL" default:"info"`
}

const aboutRun = `Run runs what the files declare, in this process: sources, buses, triggers and the ingress for HTTP events. It prints what arrives
at sinks that no --sink leads anywhere, applies files that change, and drains at the first SIGINT, SIGTERM or SIGHUP.
The environment variables EVENTS_LISTEN, EVENTS_METRICS, EVENTS_DATA, EVENTS_OUTPUT and EVENTS_LOG_LEVEL change the defaults.`

func runCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var env runEnv
	f := newFlags("run", "-f PATH...", aboutRun, stderr)
	if err := envconfig.Process("", &env); err != nil {
		return f.misused("environment: %v", err)
	}
	var sinks, addresses list
	paths := f.paths()
	f.StringVar(&env.Listen, "listen", env.Listen, "`HOST:PORT` of the ingress; port 0 means any")
	f.StringVar(&env.Metrics, "metrics", env.Metrics, "`HOST:PORT` where /metrics is served for Prometheus; default: nowhere")
	f.Var(&sinks, "sink", "where references to a sink lead, `NAMESPACE/NAME=URL`; may be repeated")
	f.Var(&addresses, "address", "connect to another address than the YAML or a broker names, `HOST:PORT=HOST:PORT`; may be repeated")
	servers := f.Bool("embedded", false, "start an in-process broker for each address in the YAML that this machine does not reach")
	f.StringVar(&env.Data, "data", env.Data, "`DIR` where embedded buses and brokers keep their events; default: in memory")
	f.StringVar(&env.Output, "output", env.Output, "how to print deliveries: `text or json`")
	f.StringVar(&env.LogLevel, "log-level", env.LogLevel, "`LEVEL` of the log on stderr: debug, info, warn or error")
	if code, ok := f.parsePaths(args, stdout, paths); !ok {
		return code
	}
	if env.Output != "text" && env.Output != "json" {
		return f.misused("%s %q: want text or json", f.origin("output"), env.Output)
	}
	if !canListen(env.Listen) {
		return f.misused("%s %q: want HOST:PORT, for example 127.0.0.1:8080", f.origin("listen"), env.Listen)
	}
	if env.Metrics != "" && !canListen(env.Metrics) {
		return f.misused("%s %q: want HOST:PORT, for example 127.0.0.1:9090", f.origin("metrics"), env.Metrics)
	}
	// Most likely a variable that is not set, and what waits would not outlive the run.
	if env.Data == "" && f.given("data") {
		return f.misused(`--data "": want a directory; without --data events are kept in memory`)
	}
	log, flush, err := newLogger(env.LogLevel, stderr)
	if err != nil {
		return f.misused("%s %v", f.origin("log-level"), err)
	}
	defer flush()
	o := standalone.Options{
		Paths: *paths, Listen: env.Listen, Metrics: env.Metrics, Embedded: *servers, DataDir: env.Data, JSON: env.Output == "json", Stdout: stdout, Stderr: stderr,
	}
	if o.Sinks, err = standalone.ParseSinks(sinks); err != nil {
		return f.misused("%v", err)
	}
	if o.Addresses, err = standalone.ParseAddresses(addresses); err != nil {
		return f.misused("%v", err)
	}
	err = standalone.Run(logging.WithLogger(ctx, log), o)
	if invalid, ok := errors.AsType[*standalone.InvalidError](err); ok {
		fmt.Fprintln(stderr, invalid)
		return 1
	}
	if err != nil {
		return f.failed(err)
	}
	return 0
}

func canListen(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return false
	}
	_, err = net.LookupPort("tcp", port)
	return err == nil
}
