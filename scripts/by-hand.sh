#!/usr/bin/env bash
# A federation by hand: nothing here but commands of `comity`, as a person types them.
#
#   scripts/by-hand.sh three DATA DIR     three members agree and register; a dry check says no, and why
#   scripts/by-hand.sh eight DATA DIR     eight members, the fewest that may compute, answer a study
#
# DATA is a folder that `comity demo --dir DATA` left: each member's rows are taken from DATA/<member>/data.
# DIR is a folder to make. `comity` is the one on PATH, or the file of that name that $COMITY gives. The hub
# listens on $LISTEN, 127.0.0.1:7400 by default.
#
# For members on machines of their own (scripts/three-hosts.sh): $ON is a program that starts there what is served,
# `$ON MEMBER COMMAND...` (MEMBER is `hub` for the hub); $PROXY is the proxy through which all nodes reach the hub;
# $THEN is a program that is run at the end, while all is still served.
set -euo pipefail

how=${1:?three or eight} data=${2:?a folder left by comity demo} dir=${3:?a folder to make}
listen=${LISTEN:-127.0.0.1:7400}
here=$(cd "$(dirname "$0")/.." && pwd)

[ -z "${COMITY:-}" ] || PATH=$(dirname "$COMITY"):$PATH
say() { printf '\n== %s\n' "$*"; }
# Tries a command until it succeeds; gives up after a minute.
until_yes() {
  for _ in $(seq 300); do
    if "$@"; then return 0; fi
    sleep 0.2
  done
  echo "waited a minute for: $*" >&2
  return 1
}
# At the end, and if anything fails: the processes that were started here.
started=()
finish() { for pid in ${started[@]+"${started[@]}"}; do kill "$pid" 2>/dev/null || true; done; wait; }
trap finish EXIT

# id, jurisdiction, name
members() {
  echo 'gb GB Stroke Unit, United Kingdom'
  echo 'se SE Stroke Unit, Sweden'
  echo 'ch CH Stroke Unit, Switzerland'
  if [ "$how" = eight ]; then
    echo 'no NO Stroke Unit, Norway'
    echo 'it IT Stroke Unit, Italy'
    echo 'nl NL Stroke Unit, Netherlands'
    echo 'pl PL Stroke Unit, Poland'
    echo 'ar AR Stroke Unit, Argentina'
  fi
}
ids=$(members | cut -d' ' -f1)
list=$(for id in $ids; do printf '"%s", ' "$id"; done)
count=$(echo "$ids" | wc -w | tr -d ' ')
mkdir "$dir"

say "1. Keys. Each organisation makes its own; private keys never leave its folder."
comity hub init --dir "$dir/hub" --federation by-hand --operator 'Relay Cooperative (fictitious)' --jurisdiction NL
while read -r id jurisdiction name; do
  comity node init --node "$dir/$id" --id "$id" --name "$name" --jurisdiction "$jurisdiction"
done < <(members)

say "2. The charter: what all agree on, with the public part of each member and of the hub."
{
  cat <<TOML
federation = "by-hand"
title = "Stroke units answer joint questions"
sunset = "2031-12-31"
floor = "$(sha256sum "$here/policies/floor.cedar" | cut -d' ' -f1)"
purposes = ["stroke-research"]
aggregator_pool = ["se", "ch"]

[data_access]
quorum = $count
deadline_hours = 72
valid_days = 90

[limits]
lease_hours = 24
watermark_minutes = 10
min_hidden_sites = 3

TOML
  cat "$dir/hub/hub.toml"
  for id in $ids; do echo; cat "$dir/$id/member.toml"; done
} > "$dir/charter.toml"
comity charter check "$dir/charter.toml"
comity charter check "$dir/charter.toml" | sed -n 's/^digest //p' > "$dir/charter.digest"

say "3. Serve, each in a terminal of its own. A node signs the charter when it is served first."
${ON:+"$ON" hub} comity hub serve --dir "$dir/hub" --listen "$listen" > "$dir/hub.out" 2> "$dir/hub.log" &
started+=($!)
until_yes grep -q 'listens on' "$dir/hub.out"
address=$(sed -n 's/.* listens on //p' "$dir/hub.out")
for id in $ids; do
  comity node join --node "$dir/$id" --charter "$dir/charter.toml" --hub "$address" ${PROXY:+--proxy "$PROXY"}
  ${ON:+"$ON" "$id"} comity node serve --node "$dir/$id" > /dev/null 2> "$dir/$id.log" &
  started+=($!)
done
in_force() { comity node status --node "$dir/$1" --json 2> /dev/null | grep -q '"in_force": true'; }
for id in $ids; do until_yes in_force "$id"; done
comity node status --node "$dir/gb"

say "4. Rules. Each member adopts its country's schedule; its counsel confirms it."
floor() { comity policy show --node "$dir/$1" --json | grep -q '"published": true'; }
for id in $ids; do
  until_yes floor "$id"
  comity policy adopt --node "$dir/$id"
  comity policy confirm --node "$dir/$id" --seat "$id-counsel"
done

say "5. Data. Each member maps and tests its own rows at home and registers them; the rows stay."
for id in $ids; do
  cp -R "$data/$id/data" "$dir/$id/data"
  comity dataset add --node "$dir/$id" "$dir/$id/data/dataset.toml"
done
comity dataset list --node "$dir/gb"

say "6. Stops. One member alone stops its dataset or its node, at once, and starts it again."
comity dataset pause --node "$dir/se" ist
comity dataset resume --node "$dir/se" ist
comity node stop --node "$dir/ch"
comity node resume --node "$dir/ch"

say "7. A study. gb asks and receives; se and ch hold shares of every sum; somebody else opens the sums."
collector=$([ "$how" = eight ] && echo no || echo se)
cat > "$dir/recurrence.toml" <<TOML
id = "recurrence"
title = "Recurrent stroke within 14 days by aspirin; age and blood pressure"
purpose = "stroke-research"
domain = "health"
requester = "gb"
collector = "$collector"
aggregators = ["se", "ch"]
recipients = ["gb"]
dataset = "ist"
contributors = [${list%, }]
minimum_contributors = $count
dictionary = "ist-core/1"
until = "2030-12-31"

[protection]
min_cell = 10
min_hidden_sites = 3

[population]
complete = ["age", "sbp", "aspirin", "recurrence14"]

[[analysis]]
id = "recurrence"
title = "Recurrent ischaemic stroke within 14 days by aspirin"
method = "crosstab"
by = ["recurrence14", "aspirin"]

[[analysis]]
id = "baseline"
title = "Age and systolic blood pressure"
method = "describe"
columns = ["age", "sbp"]
TOML
registered() { [ "$(comity dataset list --node "$dir/gb" | grep -c '^ist@')" = "$count" ]; }
until_yes registered
confirmed() { ! comity study check --node "$dir/gb" "$dir/recurrence.toml" | grep -q floor.schedule-confirmed; }
until_yes confirmed

if [ "$how" = three ]; then
  say "Three members are too few to hide behind. The dry check says so (exit 1) before anybody is asked:"
  comity study check --node "$dir/gb" "$dir/recurrence.toml" && code=0 || code=$?
  [ "$code" = 1 ] || exit 1
  say "The agreement stands, the record verifies, and more members can join a larger one."
  comity record verify --node "$dir/ch"
  exit 0
fi

comity study check --node "$dir/gb" "$dir/recurrence.toml" > "$dir/recurrence.check.txt"
head -n 8 "$dir/recurrence.check.txt"
comity study submit --node "$dir/gb" "$dir/recurrence.toml"

say "8. Decisions. Every steward says yes or no for the data of their own house; a no needs no majority."
waits() { comity decide list --node "$dir/$1" | grep -q "^$2 "; }
for id in $ids; do
  until_yes waits "$id" recurrence
  comity decide approve --node "$dir/$id" recurrence
done

say "9. The answer, sealed to gb and opened at its node."
answered() { comity study result --node "$dir/gb" recurrence > "$dir/recurrence.txt"; }
until_yes answered
cat "$dir/recurrence.txt"
comity study show --node "$dir/gb" recurrence
comity node egress --node "$dir/it"

say "10. Another study, and one no: it is not run."
sed 's/^id = "recurrence"$/id = "once-more"/' "$dir/recurrence.toml" > "$dir/once-more.toml"
comity study submit --node "$dir/gb" "$dir/once-more.toml"
until_yes waits pl once-more
comity decide refuse --node "$dir/pl" once-more
comity study show --node "$dir/pl" once-more

say "11. Proof, for somebody who trusts nobody here: one file, and the charter's digest from another source."
comity bundle export --node "$dir/nl" recurrence --out "$dir/recurrence.bundle"
comity bundle verify "$dir/recurrence.bundle" --charter "$dir/charter.digest"

if [ -n "${THEN:-}" ]; then "$THEN"; fi
