#!/usr/bin/env bash
# Checks what is in deploy/ as far as this machine can, and says what it cannot.
#
#   scripts/check-deploy.sh [COMITY]
#
# COMITY is the binary that the units are checked with, target/release/comity by default.
set -euo pipefail
cd "$(dirname "$0")/.."
comity=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/release/comity}")
tmp=$(mktemp -d "${TMPDIR:-/tmp}/comity-deploy.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# ---- units -------------------------------------------------------------------------------------------------

# Exposure by systemd's own count, in tenths: 0 is none, 100 all.
limit=15
if command -v systemd-analyze > /dev/null; then
  for unit in comity-node comity-hub; do
    sed "s#/usr/local/bin/comity#$comity#" "deploy/systemd/$unit.service" > "$tmp/$unit.service"
    # It reads a folder of units, and warns of a user that this machine does not have.
    systemd-analyze verify --man=no --recursive-errors=no "$tmp/$unit.service" > "$tmp/verify" 2>&1 || { cat "$tmp/verify"; die "$unit.service"; }
    if grep "$unit" "$tmp/verify"; then die "$unit.service: systemd warns"; fi
    systemd-analyze security --offline=yes --threshold="$limit" --no-pager "$tmp/$unit.service" > "$tmp/security" ||
      { grep -E '✗|exposure' "$tmp/security"; die "$unit.service is more exposed than $limit"; }
    tail -n 1 "$tmp/security" | sed 's/[^ -~]//g'
  done
else
  echo "NOT CHECKED: the systemd units, no systemd-analyze here"
fi

# ---- containers --------------------------------------------------------------------------------------------

compose=
if docker compose version > /dev/null 2>&1; then
  compose="docker compose"
elif command -v docker-compose > /dev/null; then
  compose=docker-compose
fi
if [ -n "$compose" ]; then
  for profile in node hub; do
    COMITY_NODE=/n COMITY_ROWS=/r COMITY_HUB=/h $compose -f deploy/compose.yaml --profile "$profile" config > "$tmp/config" ||
      die "deploy/compose.yaml"
    for words in 'read_only: true' 'no-new-privileges:true' 'user: 65532:65532' '- ALL'; do
      grep -qF -- "$words" "$tmp/config" || die "deploy/compose.yaml: profile $profile lacks '$words'"
    done
  done
  echo "compose.yaml holds ($compose config)"
else
  echo "NOT CHECKED: deploy/compose.yaml, no docker compose here"
fi
if docker info > /dev/null 2>&1; then
  echo "NOT CHECKED: the image is not built here, that takes long: docker build -f deploy/Dockerfile ."
else
  echo "NOT CHECKED: the image, no container engine here"
fi

# The commands that the files run are commands that exist.
for command in "hub serve --dir X --listen Y" "node serve --node X" "node status --node X"; do
  # shellcheck disable=SC2086
  "$comity" $command --help > /dev/null || die "deploy: comity $command is no command"
done
