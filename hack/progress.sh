#!/usr/bin/env bash
# Shows of `go test -v` what a person wants to watch: tests as they end, their logs, and failures.
set -uo pipefail
grep --line-buffered -vE '^(=== (RUN|PAUSE|CONT|NAME)|testing: warning: no tests to run|ok .*\[no tests to run\]|PASS$|\?  )'
exit 0
