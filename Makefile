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

# The quick tests: no process but their own, servers in process. More packages at once than processors, since the longest of them wait.
test:
	$(GO) test -p 4 ./...

# How many packages of the suites against real servers run beside each other: they wait more than they compute. The longest begin first.
lanes ?= 3
suites := ./test/cluster ./pkg/gateway/bus/kafka ./test/e2e ./pkg/gateway/... ./test/...

# The suites against real servers, which are built or installed first. KUBECONFIG names another cluster than one of our own: docs/architecture.md.
e2e:
	hack/servers.sh
	$(GO) test -run '^$$' -fuzz '^FuzzParse$$' -fuzztime 70000x ./pkg/condition
	GOWORK=off $(GO) test -C third_party/kubernetes -count 1 ./...
	@echo "e2e: $(lanes) packages beside each other, with $$(nproc) processors and $$(awk '/^MemTotal/ {print int($$2 / 1048576)}' /proc/meminfo) GiB"
	$(GO) test -json -tags e2e -count 1 -p $(lanes) -parallel 4 -timeout 60m -run 'E2E' $(suites) | $(GO) run ./hack/progress

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
