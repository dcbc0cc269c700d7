#!/usr/bin/env bash
# Runs the commands in the documents and compares what they print with what the documents say they print.
#
#   scripts/check-docs.sh [DEMO]
#
# DEMO is a folder left by `comity demo` on generated data; without it one is made. In a document,
#
#   <!-- run -->             before a sh block: it is run and must succeed
#   <!-- run exit=N -->      it must exit with N
#   <!-- run until -->       it is tried again, for a minute at most, until it does and shows what is said
#   <!-- run background -->  it runs until the end of the document
#   <!-- run                 the same, of lines up to `-->` that the reader does not see: what was there before
#   <!-- shows -->           before a text block: each of its lines is part of a line that was printed; `...` is any
#   <!-- shows roughly -->   the same, whatever the numbers
#
# Blocks run in order, in one temporary folder, with what they exported; in place of /var/lib and /srv they have folders
# there, in place of the example's hub and proxy two ports of this machine. Also checked: links to files, that every
# command named is one and has the options that it is given, the table of statement types, and that every test named
# exists.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
docs=(README.md ARCHITECTURE.md SECURITY.md CONTRIBUTING.md CHANGELOG.md docs/operators.md policies/README.md jurisdictions/README.md)

tmp=$(mktemp -d "${TMPDIR:-/tmp}/comity-docs.XXXXXX")
groups=()
finish() {
  for pid in ${groups[@]+"${groups[@]}"}; do kill -TERM -- "-$pid" 2>/dev/null || true; done
  groups=()
}
trap 'finish; rm -rf "$tmp"' EXIT
failures=0
fail() {
  echo "  FAILED $*" >&2
  failures=$((failures + 1))
}

# ---- commands ----------------------------------------------------------------------------------------------

cargo build --release --quiet --locked
cargo build --release --quiet --locked --example connect_proxy
work=$tmp/work
mkdir "$work"
for part in target policies jurisdictions studies scripts; do ln -s "$root/$part" "$work/$part"; done
if [ $# -gt 0 ]; then
  # A copy: the commands change what they read.
  cp -R "$1" "$work/comity-demo"
  rm -f "$work"/comity-demo/*/control.sock
else
  echo "making a demo"
  (cd "$work" && target/release/comity demo > demo.txt 2>&1) || { tail -n 20 "$work/demo.txt" >&2; exit 1; }
fi
# The documents say 7400; something else may listen there.
port=$((20000 + RANDOM % 10000))
printf '' > "$tmp/exports"

# Splits a document into files: N.code, N.how, and N.shows where it says what is shown.
split() {
  awk -v out="$2" '
    to == "" && /^<!-- run[ a-z=0-9]*$/ { n++; name = sprintf("%s/%03d", out, n); sub(/^<!-- /, ""); print > (name ".how"); print NR > (name ".line"); how = ""; to = name ".code"; hidden = 1; next }
    hidden && /^-->$/ { close(to); to = ""; hidden = 0; next }
    /^<!-- run.* -->$/ { how = $0; sub(/^<!-- /, "", how); sub(/ -->$/, "", how); next }
    /^<!-- shows( roughly)? -->$/ { shows = 1; if (/roughly/) print > (name ".roughly"); next }
    /^```sh$/ && how != "" { n++; name = sprintf("%s/%03d", out, n); print how > (name ".how"); print NR > (name ".line"); how = ""; to = name ".code"; next }
    /^```text$/ && shows { shows = 0; to = name ".shows"; next }
    /^```$/ { if (to != "") close(to); to = ""; next }
    to != "" { print > to }
    to == "" && /[^ ]/ { how = ""; shows = 0 }
  ' "$1"
}

# Whether everything in $1 was printed in $2; names what was not in $3. $1 without ending has its marks beside it.
shown() {
  local line
  : > "$3"
  if [ -e "${1%.shows}.roughly" ]; then
    sed -E 's/[0-9]+/0/g' "$1" > "$tmp/said"
    sed -E 's/[0-9]+/0/g' "$2" > "$tmp/printed"
    set -- "$tmp/said" "$tmp/printed" "$3"
  fi
  while IFS= read -r line; do
    case $line in '' | ...) continue ;; esac
    grep -qF -- "$line" "$2" || printf '%s\n' "$line" >> "$3"
  done < "$1"
  [ ! -s "$3" ]
}

# Runs a block in a shell of its own, so that the first command that fails ends it; keeps what it exports.
once() {
  local code=0
  {
    printf '. %q\nset -euo pipefail\ncd %q\n' "$tmp/exports" "$work"
    printf 'trap %q EXIT\n' "export -p | grep -vE ' (PWD|OLDPWD|SHLVL)(=|\$)' > '$tmp/exports.next'"
    printf '%s\n' "$2"
  } > "$tmp/block.sh"
  bash "$tmp/block.sh" < /dev/null > "$1" 2>&1 || code=$?
  if [ -s "$tmp/exports.next" ]; then mv "$tmp/exports.next" "$tmp/exports"; fi
  return "$code"
}

run_document() {
  local doc=$1 dir=$tmp/blocks/${1//\//_} file how code want got tries
  mkdir -p "$dir"
  split "$doc" "$dir"
  for file in "$dir"/*.code; do
    [ -e "$file" ] || return 0
    file=${file%.code}
    how=$(cat "$file.how")
    code=$(sed -E "s/(127\.0\.0\.1|hub\.example\.org):7400/127.0.0.1:$port/g
      s/proxy\.example\.org:3128/127.0.0.1:$((port + 1))/g; s#/(var/lib|srv)/#$work/\1/#g" "$file.code")
    echo "  $doc:$(cat "$file.line") ($how)"
    if [[ $how == *background* ]]; then
      set -m
      (
        # shellcheck disable=SC1091
        . "$tmp/exports"
        cd "$work"
        eval "$code"
      ) < /dev/null > "$file.out" 2>&1 &
      groups+=($!)
      set +m
      sleep 1
      continue
    fi
    want=0
    if [[ $how =~ exit=([0-9]+) ]]; then want=${BASH_REMATCH[1]}; fi
    tries=1
    if [[ $how == *until* ]]; then tries=120; fi
    while true; do
      got=0
      once "$file.out" "$code" || got=$?
      : > "$file.missing"
      if [ "$got" = "$want" ] && { [ ! -e "$file.shows" ] || shown "$file.shows" "$file.out" "$file.missing"; }; then break; fi
      tries=$((tries - 1))
      if [ "$tries" -le 0 ]; then
        fail "$doc:$(cat "$file.line"): exit $got, expected $want"
        sed 's/^/    not shown: /' "$file.missing" >&2
        echo "    it printed:" >&2
        tail -n 40 "$file.out" | cut -c1-200 | sed 's/^/    | /' >&2
        break
      fi
      sleep 0.5
    done
  done
}

for doc in "${docs[@]}"; do
  run_document "$doc"
  finish
done

# ---- names -------------------------------------------------------------------------------------------------

echo "  links"
for doc in "${docs[@]}"; do
  while IFS= read -r link; do
    [ -e "$(dirname "$doc")/$link" ] || fail "$doc: links to $link, which is not there"
  done < <(grep -oE '\]\([^)#]+' "$doc" | sed 's/^](//' | grep -vE '^https?:' || true)
done

echo "  commands"
# In blocks of commands, run or not, and between backticks.
said() {
  awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on' "$1"
  awk '/^```/ { fenced = !fenced; next } !fenced' "$1" | grep -oE '`[^`]+`' || true
}
for doc in "${docs[@]}"; do
  while read -ra words; do
    noun=${words[1]:-} verb=${words[2]:-}
    [[ $noun =~ ^[a-z]+$ ]] || continue
    if [ "$noun" = demo ]; then verb=; fi
    # A third word may be a verb of its own; where it is not, the help is that of the second.
    sub=${words[3]:-}
    [[ $verb != "" && $sub =~ ^[a-z]+$ ]] || sub=
    # shellcheck disable=SC2086
    if ! help=$(target/release/comity $noun $verb $sub --help 2> /dev/null < /dev/null); then
      fail "$doc: comity $noun $verb is no command"
      continue
    fi
    for word in "${words[@]}"; do
      [[ $word =~ ^--[a-z] ]] || continue
      grep -qE -- "$word( |=|$)" <<< "$help" || fail "$doc: comity $noun $verb has no $word"
    done
  done < <(said "$doc" | grep -oE '(^|[ (/`])comity( -?-?[][a-zA-Z0-9_./:@$"{}=-]+|'" '[^']*'"')+' | sed -E 's/^[^c]//' | sort -u)
done
while IFS= read -r name; do
  [ -e "$name" ] || fail "a document names $name, which is not there"
done < <(grep -ohE '\b(scripts|deploy)/[a-zA-Z/.-]*[a-zA-Z]' "${docs[@]}" | sort -u)

echo "  statement types"
diff <(grep -ohE '"[a-z]+\.[a-z]+@[0-9]+"' crates/charter/src/body.rs crates/record/src/roster.rs | tr -d '"' | sort -u) \
  <(grep -oE '^\| `[a-z]+\.[a-z]+@[0-9]+`' ARCHITECTURE.md | grep -oE '[a-z]+\.[a-z]+@[0-9]+' | sort -u) ||
  fail "ARCHITECTURE.md: its statement types are not those of the code"

echo "  tests named"
while IFS= read -r name; do
  grep -rqE "fn $name\b" crates src tests --include='*.rs' || fail "a document names the test $name, which is not there"
done < <(grep -ohE '`[a-z0-9]+(_[a-z0-9]+){3,}`' "${docs[@]}" | tr -d '`' | sort -u)

if [ "$failures" -gt 0 ]; then
  echo "$failures faults in the documents" >&2
  exit 1
fi
echo "  the documents hold"
