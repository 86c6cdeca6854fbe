# The verbs of this repository. Each prints what it is doing; none needs anything but Go, and apt-get where it says so.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export CGO_ENABLED ?= 0
GO ?= go

.PHONY: run build test e2e bench lint generate release cluster

# Runs the quick start: an embedded bus, http and cron events, a condition over both.
run:
	$(GO) run ./cmd/events run -f config/samples/quickstart.yaml

build:
	$(GO) build -o bin/events ./cmd/events

# The quick tests: no process but their own, servers in process.
test:
	$(GO) test ./...

# The suites against real servers, which are built or installed first. KUBECONFIG names another cluster than one of our own: docs/architecture.md.
e2e:
	hack/servers.sh
	$(GO) test -run '^$$' -fuzz '^FuzzParse$$' -fuzztime 70000x ./pkg/condition
	GOWORK=off $(GO) test -C third_party/kubernetes -count 1 ./...
	$(GO) test -tags e2e -count 1 -p 1 -parallel 4 -timeout 60m -v -run 'E2E' ./test/... ./pkg/gateway/... | hack/progress.sh

# Ratios against a baseline that is measured in the same run.
bench:
	$(GO) test -run '^$$' -bench . -benchtime 1s ./pkg/event ./pkg/condition ./pkg/gateway/dispatch ./pkg/gateway/ingress
	$(GO) run ./test/bench

lint:
	hack/lint.sh

generate:
	hack/generate.sh

# What kubectl applies to install this version, in release/. The script says what may be set.
release:
	hack/release.sh

# A Kubernetes on loopback until ctrl-c, as root; its first build takes long. Images are named in bin/cluster/images.yaml.
cluster:
	$(GO) build -C third_party/kubernetes -ldflags "$$(cat third_party/kubernetes/ldflags)" -o ../../bin/kube . && exec bin/kube cluster --dir bin/cluster
