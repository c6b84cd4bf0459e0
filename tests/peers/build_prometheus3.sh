#!/bin/sh
# Builds Prometheus 3, which has an OTLP receiver, into .cache/peers/prometheus3: without service
# discovery but static, file, HTTP and Kubernetes, without the web pages. Nothing where it is there. Options in the environment: see find_go.sh.
set -eu
peer=prometheus3
. "$(dirname "$0")/find_go.sh"

version=3.13.5
module=github.com/prometheus/prometheus@v0.3${version#3.} # Go's number of 3.13.5 is 0.313.5
stamp="$version kubernetes"
built "$stamp"
find_go

echo "building $peer $version; this takes some minutes" >&2
# `go install` refuses a module with replace directives; built in its own folder, it is the main module.
source=$("$GO" mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[ -n "$source" ] || fail "its source $module cannot be had; see the lines above"
tags=remove_all_sd,enable_kubernetes_sd,netgo
(cd "$source" && $NICE "$GO" build -trimpath -tags "$tags" -ldflags "-s -w -X github.com/prometheus/common/version.Version=$version" -o "$PEERS/prometheus3.new" ./cmd/prometheus) ||
	fail "the compiler failed; see the lines above"
keep "$PEERS/prometheus3.new" "$stamp"
