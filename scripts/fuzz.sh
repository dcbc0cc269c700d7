#!/usr/bin/env bash
# Feeds changed bytes to every parser of foreign bytes.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]     each target for so long, 60 seconds by default
#
# With a nightly compiler and cargo-fuzz (`cargo install cargo-fuzz`) under libFuzzer, guided by coverage, one target
# after the other; what is learned stays in fuzz/corpus, what breaks in fuzz/artifacts. Without them the same functions
# stand in on the stable compiler, on some 300,000 changed seeds, and this says so. Exit 0 if nothing broke.
set -euo pipefail

seconds=${1:-60}
shift || true
cd "$(dirname "$0")/.."

if ! cargo +nightly --version >/dev/null 2>&1 || ! cargo fuzz --version >/dev/null 2>&1; then
  echo "no nightly compiler or no cargo-fuzz: the stable test stands in, without guidance by coverage" >&2
  exec cargo test --release -p comity-world --test world parsers
fi

if [ $# -gt 0 ]; then targets=("$@"); else
  targets=()
  for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi
cargo +nightly fuzz build --fuzz-dir fuzz "${targets[@]:0:0}"
broken=()
for target in "${targets[@]}"; do
  mkdir -p "fuzz/corpus/$target"
  echo "== $target, $seconds s"
  cargo +nightly fuzz run --fuzz-dir fuzz "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -max_len=70000 -timeout=25 -print_final_stats=1 2>&1 |
    grep -E '^(stat::number_of_executed_units|stat::average_exec|SUMMARY|==[0-9]+==|thread|INFO: seed corpus|#.*DONE)' || true
  [ "${PIPESTATUS[0]}" -eq 0 ] || broken+=("$target")
done
if [ ${#broken[@]} -gt 0 ]; then
  echo "broken: ${broken[*]}; the bytes are in fuzz/artifacts" >&2
  exit 1
fi
echo "nothing broke in ${#targets[@]} targets"
