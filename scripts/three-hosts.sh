#!/usr/bin/env bash
# A federation on three hosts that can reach nothing but a proxy, with the hub in a network behind it.
#
#   scripts/three-hosts.sh DATA DIR
#
# DATA is a folder that `comity demo --dir DATA` left, DIR a folder to make, as for scripts/by-hand.sh, which does the
# work: it agrees, registers, asks, decides, computes, releases and verifies. Here its eight members, the fewest that
# may compute, are spread over three hosts. Each host is a network namespace with a cable of its own to the proxy:
#
#   host1 (gb ch it) 10.77.1.2 ---- 10.77.1.1 \
#   host2 (se nl ar) 10.77.2.2 ---- 10.77.2.1  proxy 10.77.0.1:3128, forwards nothing
#   host3 (no pl)    10.77.3.2 ---- 10.77.3.1 /      10.77.9.1 ---- 10.77.9.2:7400 hub
#
# Then it is shown that there is no other way: no host reaches the hub or another host, nothing listens on a host, and
# the proxy was asked for the hub alone. The hosts share this machine's disk and clock.
#
# `comity` is the one on PATH, or the file of that name that $COMITY gives. Where namespaces cannot be made, it says
# `skipped`, why, and exits with 77. It ends every process and namespace that it made.
set -euo pipefail

data=${1:?a folder left by comity demo} dir=${2:?a folder to make}
here=$(cd "$(dirname "$0")/.." && pwd)
skip() {
  echo "skipped: $*"
  exit 77
}
die() {
  printf '%s\n' "$*" >&2
  exit 1
}
say() { printf '\n== %s\n' "$*"; }

[ "$(uname -s)" = Linux ] || skip "network namespaces are Linux's, this is $(uname -s)"
[ "$(id -u)" = 0 ] || skip "only root may make network namespaces"
command -v ip > /dev/null || skip "no ip: install iproute2"
command -v ss > /dev/null || skip "no ss: install iproute2"
[ -d "$data" ] || die "$data is not a folder; make one with comity demo --dir $data"
[ -z "${COMITY:-}" ] || PATH=$(dirname "$COMITY"):$PATH
command -v comity > /dev/null || die "no comity on PATH, and no COMITY"
proxy_program=${CONNECT_PROXY:-}
if [ -z "$proxy_program" ]; then
  # With the whole workspace, so that nothing is built a second time.
  (cd "$here" && cargo build --release --locked --quiet --example connect_proxy)
  proxy_program=${CARGO_TARGET_DIR:-$here/target}/release/examples/connect_proxy
fi
[ -x "$proxy_program" ] || die "$proxy_program is not there"

tmp=$(mktemp -d "${TMPDIR:-/tmp}/comity-hosts.XXXXXX")
made=() working='' proxying=''
finish() {
  local name pid
  if [ -n "$working" ]; then kill "$working" 2> /dev/null || true; fi
  if [ -n "$proxying" ]; then kill "$proxying" 2> /dev/null || true; fi
  for name in ${made[@]+"${made[@]}"}; do
    # Nobody but what was started here is in a namespace that was made here.
    for pid in $(ip netns pids "$name" 2> /dev/null); do kill "$pid" 2> /dev/null || true; done
    ip netns del "$name" 2> /dev/null || true
  done
  wait
  rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'exit 129' HUP

# ---- the networks ------------------------------------------------------------------------------------------

ns() { echo "comity-$$-$1"; }
add() {
  ip netns add "$(ns "$1")" 2> "$tmp/why" || skip "no network namespace can be made here: $(head -n 1 "$tmp/why")"
  made+=("$(ns "$1")")
  ip -n "$(ns "$1")" link set lo up
}
# cable NAME NET: from NAME (.2) to the proxy (.1)
cable() {
  ip -n "$(ns "$1")" link add name out type veth peer name "$1" netns "$(ns proxy)" 2> "$tmp/why" ||
    skip "no pair of interfaces can be made here: $(head -n 1 "$tmp/why")"
  ip -n "$(ns "$1")" address add "10.77.$2.2/30" dev out
  ip -n "$(ns "$1")" link set dev out up
  ip -n "$(ns proxy)" address add "10.77.$2.1/30" dev "$1"
  ip -n "$(ns proxy)" link set dev "$1" up
}
# in_ns NAME COMMAND...
in_ns() {
  local name=$1
  shift
  ip netns exec "$(ns "$name")" "$@"
}

say "Three hosts, a proxy, a hub"
add proxy
add hub
ip -n "$(ns proxy)" address add 10.77.0.1/32 dev lo
in_ns proxy sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward' 2> /dev/null || true
[ "$(in_ns proxy cat /proc/sys/net/ipv4/ip_forward)" = 0 ] || skip "the proxy's namespace forwards packets, and that cannot be turned off"
cable hub 9
# The hub would find its way back, so that a packet that got through would be seen.
ip -n "$(ns hub)" route add default via 10.77.9.1
for n in 1 2 3; do
  add "host$n"
  cable "host$n" "$n"
  # The one place that a host knows beyond its cable.
  ip -n "$(ns "host$n")" route add 10.77.0.1/32 via "10.77.$n.1"
  echo "host$n:"
  ip -n "$(ns "host$n")" route | sed 's/^/  /'
done

hub=10.77.9.2:7400 proxy=10.77.0.1:3128 login=site:let-me-out
PROXY_LOGIN=$login ip netns exec "$(ns proxy)" "$proxy_program" "$proxy" "$hub" > "$tmp/proxy.log" 2>&1 &
proxying=$!
for _ in $(seq 50); do
  if grep -q 'listens on' "$tmp/proxy.log"; then break; fi
  sleep 0.1
done
grep 'listens on' "$tmp/proxy.log" || die "the proxy does not listen: $(cat "$tmp/proxy.log")"

# ---- the federation ----------------------------------------------------------------------------------------

cat > "$tmp/on" <<SH
#!/bin/sh
case \$1 in
  hub) at=hub ;;
  gb | ch | it) at=host1 ;;
  se | nl | ar) at=host2 ;;
  *) at=host3 ;;
esac
shift
exec ip netns exec comity-$$-\$at "\$@"
SH
# What is looked at is looked at while all is served: by-hand waits at its end until that is done.
cat > "$tmp/then" <<SH
#!/bin/sh
touch "$tmp/done"
while [ -d "$tmp" ] && [ ! -e "$tmp/looked" ]; do sleep 0.2; done
SH
chmod +x "$tmp/on" "$tmp/then"

# The environment's proxies are not for nodes: one that is nowhere changes nothing.
ON=$tmp/on PROXY=http://$login@$proxy THEN=$tmp/then LISTEN=$hub HTTPS_PROXY=http://127.0.0.1:9 NO_PROXY='*' \
  "$here/scripts/by-hand.sh" eight "$data" "$dir" &
working=$!
while [ ! -e "$tmp/done" ]; do
  if ! kill -0 "$working" 2> /dev/null; then
    code=0
    wait "$working" || code=$?
    working=
    echo "-- the proxy's log" >&2
    tail -n 20 "$tmp/proxy.log" >&2
    for file in "$dir"/*.log; do
      if [ -s "$file" ]; then echo "-- $file" >&2; tail -n 5 "$file" >&2; fi
    done
    die "the federation failed (exit $code)"
  fi
  sleep 0.2
done

# ---- what there is, and what there is not ------------------------------------------------------------------

# reaches NAME HOST PORT: whether a connection can be made from there, within two seconds
reaches() { in_ns "$1" timeout 2 bash -c ": < /dev/tcp/$2/$3" 2> "$tmp/why"; }
no_way() {
  if reaches "$@"; then die "$1 reaches $2:$3"; fi
  local why
  why=$(sed -n 's/.*: \([A-Z][a-z ]*\)$/\1/p' "$tmp/why" | head -n 1)
  printf '  %s -> %s:%s  %s\n' "$1" "$2" "$3" "${why:-no answer within 2 s}"
}

say "No host reaches the hub or another host, though the hub is up: the proxy's machine reaches it"
reaches proxy 10.77.9.2 7400 || die "the hub does not answer at all"
for n in 1 2 3; do
  no_way "host$n" 10.77.9.2 7400
  no_way "host$n" "10.77.$((n % 3 + 1)).2" 22
done
echo "nor when it adds a route through the proxy's machine, which forwards nothing:"
ip -n "$(ns host1)" route add default via 10.77.1.1
no_way host1 10.77.9.2 7400
ip -n "$(ns host1)" route del default

say "Nothing listens on a host; every connection of a host is one to the proxy"
for n in 1 2 3; do
  listening=$(in_ns "host$n" ss -Hltun)
  [ -z "$listening" ] || die "host$n listens: $listening"
  # Listed to show that something is looked at, too: `ss` sees the nodes' connections.
  peers=$(in_ns "host$n" ss -Htn | awk '{ print $5 }' | sort | uniq -c)
  [ "$(awk '{ print $2 }' <<< "$peers")" = "$proxy" ] || die "host$n has connections elsewhere: $peers"
  printf '  host%s  listens: none  connected: %s times to %s\n' "$n" "$(awk '{ print $1 }' <<< "$peers")" "$proxy"
done
in_ns hub ss -Hltn | grep -q ':7400 ' || die "ss does not see what listens"
from=$(in_ns hub ss -Htn state established '( sport = :7400 )' | awk '{ sub(/:[0-9]+$/, "", $4); print $4 }' | sort -u)
[ "$from" = 10.77.9.1 ] || die "the hub is called from: $from"
echo "  hub    is called from $from alone, the proxy's outer leg"

say "The proxy was asked for the hub alone, and opens no way to anywhere else"
asked=$(awk '$1 == "CONNECT" { print $2 }' "$tmp/proxy.log" | sort | uniq -c)
[ "$(awk '{ print $2 }' <<< "$asked")" = "$hub" ] || die "the proxy was asked for: $asked"
if grep -E 'refused|failed' "$tmp/proxy.log"; then die "the proxy refused a node"; fi
for n in 1 2 3; do
  printf '  %4s tunnels opened for 10.77.%s.2 to %s\n' "$(grep -c "from 10.77.$n.2 opened" "$tmp/proxy.log")" "$n" "$hub"
done
encoded=$(printf %s "$login" | base64)
ask_for() {
  in_ns host1 bash -c "exec 3<> /dev/tcp/${proxy/:/\/}; printf 'CONNECT %s HTTP/1.1\r\n$2\r\n' '$1' >&3; head -n 1 <&3"
}
ask_for "$hub" "" | grep '^HTTP/1.1 407' || die "the proxy takes whoever comes"
ask_for 10.77.2.2:22 "Proxy-Authorization: Basic $encoded\r\n" | grep '^HTTP/1.1 403' || die "the proxy connects to anywhere"
tail -n 2 "$tmp/proxy.log" | sed 's/^/  /'

say "The proxy's login is in each node's configuration, for its user alone, and in nothing that is shown or logged"
comity node status --node "$dir/gb" | grep 'through the proxy'
for id in gb se ch no it nl pl ar; do
  [ "$(stat -c %a "$dir/$id/node.toml")" = 600 ] || die "$dir/$id/node.toml may be read by others"
  grep -q "$login" "$dir/$id/node.toml" || die "$dir/$id/node.toml does not hold the proxy"
  comity node status --node "$dir/$id" > "$tmp/status.$id"
  comity node status --node "$dir/$id" --json >> "$tmp/status.$id"
done
if grep -rlE "let-me-out|$encoded" "$tmp"/status.* "$tmp/proxy.log" "$dir"/*.log "$dir"/hub "$dir"/*/store.db*; then
  die "the login is shown there"
fi

touch "$tmp/looked"
code=0
wait "$working" || code=$?
working=
[ "$code" = 0 ] || die "the federation failed at its end (exit $code)"
say "Done in $SECONDS s: three hosts, one way out, VALID"
