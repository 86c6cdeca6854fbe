#!/usr/bin/env bash
# Installs what the suites against real servers need from the system: Java and Maven for Kafka, redis-server, which is the Sentinel too, and
# mosquitto for MQTT.
# The NATS servers and Dapr's components are built from Go modules and Kafka's jars are fetched by the tests themselves.
set -euo pipefail
missing=()
command -v java >/dev/null || missing+=(openjdk-17-jre-headless)
command -v mvn >/dev/null || missing+=(maven)
command -v redis-server >/dev/null || missing+=(redis-server)
[ -x /usr/sbin/mosquitto ] || command -v mosquitto >/dev/null || missing+=(mosquitto)
if [ ${#missing[@]} -gt 0 ]; then
  echo "servers: installing ${missing[*]}"
  sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -q
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -q -y --no-install-recommends "${missing[@]}"
fi
java -version 2>&1 | head -n 1
