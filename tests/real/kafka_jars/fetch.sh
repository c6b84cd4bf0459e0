#!/bin/sh
# Fetch the jars of an Apache Kafka broker, 43 MB, into .cache/kafka, by Maven. Needs mvn and a JDK or JRE.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=$(cd "$here/../../.." && pwd)/.cache
mkdir -p "$cache"
new=$(mktemp -d "$cache/kafka.XXXXXX")
trap 'rm -rf "$new"' EXIT
mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$new/lib" -DincludeScope=runtime
rm -rf "$cache/kafka"
mv "$new" "$cache/kafka" # whole or not at all
