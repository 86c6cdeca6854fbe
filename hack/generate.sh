#!/usr/bin/env bash
# Writes all that is generated from the API types: deepcopy functions, CustomResourceDefinitions, clients, reconcilers.
# With --verify it fails when what is in the tree differs from what it would write.
set -euo pipefail
cd "$(dirname "$0")/.."

module=$(go list -m)
kubernetes=$(go list -m -f '{{.Version}}' k8s.io/apimachinery)
knative=$(go list -m -f '{{.Version}}' knative.dev/pkg)
controller_tools=v0.20.0
types=pkg/apis/events/v1alpha1
header=(--go-header-file hack/boilerplate.go.txt)
outputs=("$types/zz_generated.deepcopy.go" config/300-{eventsource,eventbus,clustereventbus,trigger}.yaml pkg/client)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/before" "$scratch/after" "$scratch/crd"
copy() { for path in "${outputs[@]}"; do [ ! -e "$path" ] || cp -r --parents "$path" "$1"; done; }
copy "$scratch/before"

# kubernetes_gen GENERATOR ARGUMENT... runs a generator of the version of our Kubernetes modules.
kubernetes_gen() { go run "k8s.io/code-generator/cmd/$1@$kubernetes" "${header[@]}" "${@:2}"; }

echo "generate: deepcopy functions"
kubernetes_gen deepcopy-gen --output-file zz_generated.deepcopy.go "./$types"

echo "generate: CustomResourceDefinitions"
go run "sigs.k8s.io/controller-tools/cmd/controller-gen@$controller_tools" crd "paths=./$types" "output:crd:dir=$scratch/crd"
go run ./hack/crd "$scratch/crd" config

echo "generate: clientset, listers, informers"
client=pkg/client
rm -rf "$client"
kubernetes_gen client-gen --clientset-name versioned --input-base "$PWD/pkg/apis" --input events/v1alpha1 \
  --output-dir "$client/clientset" --output-pkg "$module/$client/clientset"
kubernetes_gen lister-gen --output-dir "$client/listers" --output-pkg "$module/$client/listers" "./$types"
kubernetes_gen informer-gen --output-dir "$client/informers" --output-pkg "$module/$client/informers" \
  --versioned-clientset-package "$module/$client/clientset/versioned" --listers-package "$module/$client/listers" "./$types"

echo "generate: injection and reconcilers"
go run "knative.dev/pkg/codegen/cmd/injection-gen@$knative" "${header[@]}" --input-dirs "$module/$types" \
  --versioned-clientset-package "$module/$client/clientset/versioned" \
  --external-versions-informers-package "$module/$client/informers/externalversions" \
  --listers-package "$module/$client/listers" \
  --output-package "$module/$client/injection" --output-dir "$client/injection"

if [ "${1:-}" = --verify ]; then
  copy "$scratch/after"
  if ! diff -r "$scratch/before" "$scratch/after" >"$scratch/diff"; then
    head -n 40 "$scratch/diff" >&2
    echo "generate: what is generated was out of date; commit what 'make generate' writes" >&2
    exit 1
  fi
fi
