#!/usr/bin/env bash
# Writes the generated code of the API types. With --verify it fails when what is in the tree differs.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(go list -m -f '{{.Version}}' k8s.io/apimachinery)
out=pkg/apis/events/v1alpha1/zz_generated.deepcopy.go
before=$(cat "$out" 2>/dev/null || true)
echo "generate: deepcopy functions"
go run "k8s.io/code-generator/cmd/deepcopy-gen@$version" \
  --go-header-file hack/boilerplate.go.txt --output-file zz_generated.deepcopy.go ./pkg/apis/events/v1alpha1
if [ "${1:-}" = --verify ] && [ "$before" != "$(cat "$out")" ]; then
  echo "generate: $out was out of date; commit what 'make generate' writes" >&2
  exit 1
fi
