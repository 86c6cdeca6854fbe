#!/usr/bin/env bash
# Renders what kubectl applies to install a version, into release/ or the directory that is given. openfunction-events.yaml is everything;
# crds.yaml and core.yaml are its two parts, for clusters where not everybody may define kinds.
#
#   VERSION             what the version is called; git describes it otherwise
#   KO_DOCKER_REPO      where ko puts the images, if it is installed: it builds them
#   IMAGE_REPO          where they are otherwise, as events-controller:$VERSION and so on; ghcr.io/openfunction if it is not set
#   IMAGE_PULL_SECRETS  names of Secrets that they are pulled with, with commas between them; none if it is not set
set -euo pipefail
cd "$(dirname "$0")/.."

version=${VERSION:-$(git describe --tags --always --dirty)}
repository=${IMAGE_REPO:-ghcr.io/openfunction}
out=${1:-release}
if ! [[ $version =~ ^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$ ]]; then
  echo "release: VERSION is \"$version\": use up to 63 letters, digits, \".\", \"-\" and \"_\", since it becomes a label and the tag of images" >&2
  exit 1
fi
pull=${IMAGE_PULL_SECRETS:-}
if [ -n "$pull" ] && ! [[ $pull =~ ^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(,[a-z0-9]([a-z0-9.-]*[a-z0-9])?)*$ ]]; then
  echo "release: IMAGE_PULL_SECRETS is \"$pull\": use names of Secrets with commas between them, as in \"registry,mirror\"" >&2
  exit 1
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# documents FILE... writes the documents of all files, each with the version as a label.
documents() {
  awk -v version="$version" '
    FNR == 1 && NR > 1 { print "---" }
    FNR == 1 || $0 == "---" { labelled = 0 }
    { print }
    !labelled && $0 == "    app.kubernetes.io/name: openfunction-events" {
      print "    app.kubernetes.io/version: \"" version "\""
      labelled = 1
    }' "$@"
}

images() {
  if [ -n "${KO_DOCKER_REPO:-}" ] && command -v ko >/dev/null; then
    ko resolve --tags "$version" --filename -
  else
    sed "s|ko://github.com/openfunction/events/cmd/\([a-z]*\)|$repository/events-\1:$version|"
  fi
}

# pulled has our Deployments use the Secrets, and the controller give them to those that it makes.
pulled() {
  if [ -z "$pull" ]; then
    cat
  else
    sed "s|^      serviceAccountName: .*|&\n      imagePullSecrets: [{name: ${pull//,/\}, {name: }}]|
      s|^        - name: GATEWAY_IMAGE.*|        - name: IMAGE_PULL_SECRETS\n          value: \"$pull\"\n&|"
  fi
}

crds=(config/300-*.yaml)
core=()
for file in config/*.yaml; do
  [[ $file == config/300-* ]] || core+=("$file")
done
documents "${crds[@]}" >"$scratch/crds.yaml"
documents "${core[@]}" | images | pulled >"$scratch/core.yaml"
{ cat "$scratch/crds.yaml"; echo "---"; cat "$scratch/core.yaml"; } >"$scratch/openfunction-events.yaml"
mkdir -p "$out"
mv "$scratch"/*.yaml "$out"
echo "release: $version is in $out"
