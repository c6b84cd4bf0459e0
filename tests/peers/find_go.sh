# Sourced by the build scripts: finds Go, names the cache, and ends early where the peer of this version is there.
#
#   PEERS    where the programs are kept (default: .cache/peers below the repository; git ignores it)
#   GO       the go program (default: from PATH, else /usr/local/go/bin/go)
#   NICE     what builds are started with (default: nice -n 19; a build takes minutes of all cores)

here=$(cd "$(dirname "$0")" && pwd)
PEERS=${PEERS:-$here/../../.cache/peers}
NICE=${NICE-nice -n 19}

fail() {
	echo "cannot build $peer: $1" >&2
	exit 1
}

# Go's own toolchain switching stays off: what is at hand builds the peer, or says that it is too old.
export GOTOOLCHAIN=local CGO_ENABLED=0 GOWORK=off

find_go() {
	GO=${GO:-$(command -v go || echo /usr/local/go/bin/go)}
	[ -x "$GO" ] || fail "no Go on PATH nor in /usr/local/go; install Go 1.26 or newer (https://go.dev/doc/install), or name it: GO=/path/to/go"
	PATH=$(dirname "$GO"):$PATH
	go_version=$("$GO" env GOVERSION)
	minor=${go_version#go1.}
	minor=${minor%%[!0-9]*}
	[ "${minor:-0}" -ge 26 ] || fail "$GO is $go_version; Go 1.26 or newer is needed, which another GO=/path/to/go may name"
}

# built STAMP: ends the script where the program was built from just this.
built() {
	if [ -x "$PEERS/$peer" ] && [ "$(cat "$PEERS/$peer.stamp" 2>/dev/null)" = "$1" ]; then
		echo "$peer is there: $(cd "$PEERS" && pwd)/$peer" >&2
		exit 0
	fi
	mkdir -p "$PEERS"
	PEERS=$(cd "$PEERS" && pwd)
}

# keep FILE STAMP: moves a program that was built to its place.
keep() {
	mv "$1" "$PEERS/$peer"
	echo "$2" >"$PEERS/$peer.stamp"
	echo "$peer is built: $PEERS/$peer" >&2
}
