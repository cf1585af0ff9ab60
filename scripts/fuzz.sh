#!/usr/bin/env bash
# Runs mori-ep-fuzz (make fuzz builds it) on each of its targets.
#
#   scripts/fuzz.sh SECONDS CORPUS
#
# Begins with the inputs of Tests/Fuzz/Corpus and with those that earlier searches have kept in CORPUS.
# An input that breaks a promise is kept in CORPUS/found, as TARGET-crash-...; to see it again:
# MORI_EP_FUZZ_TARGET=TARGET .build-fuzz/debug/mori-ep-fuzz FILE
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="$1"
corpus="$2"
program=.build-fuzz/debug/mori-ep-fuzz
found="$corpus/found"
targets=(messages store unique-id environment slurm tuning trace)

# One target, whose name is printed with what came of it.
search() {
    local target="$1" log="$corpus/$1.log"
    mkdir -p "$corpus/$target"
    if MORI_EP_FUZZ_TARGET="$target" "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=4096 -artifact_prefix="$found/$target-" -print_final_stats=1 \
        "$corpus/$target" "Tests/Fuzz/Corpus/$target" >"$log" 2>&1; then
        printf 'fuzz: %-12s %9s inputs, %s\n' "$target" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
            "$(grep -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -n 1)"
    else
        tail -n 60 "$log"
        printf 'fuzz: %-12s FAILED, see %s and %s\n' "$target" "$log" "$found"
        return 1
    fi
}

mkdir -p "$found"
status=0
# Two at a time: each takes a core, and CI has two.
for ((first = 0; first < ${#targets[@]}; first += 2)); do
    running=()
    for target in "${targets[@]:first:2}"; do
        search "$target" &
        running+=("$!")
    done
    for process in "${running[@]}"; do wait "$process" || status=1; done
done
exit "$status"
