#!/bin/sh
# Builds the OpenTelemetry Collector of collector.yaml by its own builder, into .cache/peers/otelcol.
# Takes four minutes of two cores; nothing where it is there. Options in the environment: see find_go.sh.
set -eu
peer=otelcol
. "$(dirname "$0")/find_go.sh"

version=$(sed -n 's/^  version: *//p' "$here/collector.yaml")
stamp="$version $(cksum <"$here/collector.yaml")"
built "$stamp"
find_go

echo "building $peer $version; this takes some minutes" >&2
GOBIN=$PEERS $NICE "$GO" install "go.opentelemetry.io/collector/cmd/builder@v$version" || fail "its builder $version cannot be had; see the lines above"
source=$PEERS/otelcol-source
sed "s|^dist:|&\n  output_path: $source|" "$here/collector.yaml" >"$PEERS/collector.yaml"
$NICE "$PEERS/builder" --config "$PEERS/collector.yaml" --ldflags "-s -w" >&2 || fail "the builder failed; see the lines above"
keep "$source/$(sed -n 's/^  name: *//p' "$here/collector.yaml")" "$stamp"
rm -rf "$source"
