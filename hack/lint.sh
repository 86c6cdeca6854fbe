#!/usr/bin/env bash
# Checks format, vet, staticcheck and generated code.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "lint: gofmt"
unformatted=$(gofmt -l cmd hack pkg test third_party)
if [ -n "$unformatted" ]; then
  printf 'lint: not formatted, run gofmt -w on:\n%s\n' "$unformatted" >&2
  exit 1
fi
echo "lint: go.mod is tidy"
go mod tidy -diff
echo "lint: go vet"
go vet ./...
go vet -tags e2e ./...
# Modules of their own. That compiles what the suites against real servers build anyway, into the same cache.
for module in kubernetes dapr dapr/natsstreaming; do
  GOWORK=off go vet -C "third_party/$module" ./...
done
echo "lint: staticcheck"
# Generated clients are what their generators make of them.
go list -tags e2e ./... | grep -v /pkg/client/ | xargs go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 -tags e2e
hack/generate.sh --verify
echo "lint: ok"
