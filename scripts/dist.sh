#!/usr/bin/env bash
# Builds the binary for shipping: one static file, which runs on any Linux of this processor and needs nothing beside it.
#
#   scripts/dist.sh [FILE]
#
# FILE is where it is put, dist/comity by default. Prints size and sha256. Takes ten minutes or more on two cores:
# everything is optimised as a whole.
#
# It is built against musl where that is (`rustup target add x86_64-unknown-linux-musl`, package musl-tools), else
# against the static glibc of this machine; `scripts/dist.sh --glibc [FILE]` takes glibc in any case.
set -euo pipefail
cd "$(dirname "$0")/.."
want=musl
if [ "${1:-}" = --glibc ]; then
  want=glibc
  shift
fi
out=${1:-dist/comity}
die() {
  printf '%s\n' "$*" >&2
  exit 1
}

host=$(rustc -vV | sed -n 's/^host: //p')
case $host in *-linux-*) ;; *) die "this is $host: a static binary is made on Linux" ;; esac
arch=${host%%-*}
musl=$arch-unknown-linux-musl
flags="-C target-feature=+crt-static"
# Where it was built is nobody's business, and no reason for another sha256.
flags+=" --remap-path-prefix=$PWD=comity --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
if [ "$want" = musl ] && [ -d "$(rustc --print sysroot)/lib/rustlib/$musl" ] && command -v musl-gcc > /dev/null; then
  target=$musl
  echo "building against musl"
  export "CC_${musl//-/_}=musl-gcc"
else
  target=$arch-unknown-linux-gnu
  # Since glibc 2.34 a static program looks up names in files and DNS by itself; before, it needs glibc's own
  # libraries beside it, and then it is not static in the one thing that a node must do.
  version=$(getconf GNU_LIBC_VERSION 2> /dev/null | sed -n 's/^glibc //p')
  printf '2.34\n%s\n' "${version:-0}" | sort -CV || die "glibc ${version:-unknown}: static name lookup needs 2.34 or musl"
  echo "building against glibc $version"
fi

begun=$SECONDS
RUSTFLAGS="${RUSTFLAGS:-} $flags" cargo build --profile dist --locked --target "$target" --bin comity
built=${CARGO_TARGET_DIR:-target}/$target/dist/comity

# ---- what was built ----------------------------------------------------------------------------------------

linked=$(ldd "$built" 2>&1 || true)
grep -qE 'statically linked|not a dynamic executable|not a valid dynamic program' <<< "$linked" || {
  printf '%s\n' "$linked" >&2
  die "$built is not static"
}

# It runs with an empty environment, decides as it should (every schedule that ships has tests), and finds a name in
# /etc/hosts.
env -i "$built" --version
for schedule in policies/schedules/*.toml; do
  env -i "$built" policy check "$schedule" > /dev/null || die "the static binary decides otherwise than it should"
done
tmp=$(mktemp -d "${TMPDIR:-/tmp}/comity-dist.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
env -i "$built" hub init --dir "$tmp/hub" --federation dist --operator Nobody --jurisdiction NL > /dev/null
env -i "$built" hub serve --dir "$tmp/hub" --listen localhost:0 > "$tmp/out" 2> "$tmp/err" &
hub=$!
for _ in $(seq 50); do
  if [ -s "$tmp/out" ] || ! kill -0 "$hub" 2> /dev/null; then break; fi
  sleep 0.1
done
kill "$hub" 2> /dev/null || true
wait "$hub" 2> /dev/null || true
grep -q ' listens on ' "$tmp/out" || { cat "$tmp/err" >&2; die "the static binary does not find localhost"; }

mkdir -p "$(dirname "$out")"
install -m 755 "$built" "$out"
printf '%s\n  target  %s, static\n  built   in %s s\n  size    %s bytes\n  sha256  %s\n' "$out" "$target" \
  "$((SECONDS - begun))" "$(stat -c %s "$out")" "$(sha256sum "$out" | cut -d' ' -f1)"
