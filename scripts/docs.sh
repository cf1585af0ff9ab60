#!/usr/bin/env bash
# Builds the documentation of `import MoriEP` into .build/docs, a folder of static pages. A warning of
# DocC and a public name without documentation are errors.
#
#   scripts/docs.sh [BASE]     BASE: the path below which the pages will be served; default: none
set -euo pipefail
cd "$(dirname "$0")/.."

base="${1:-}"
graph=.build/symbol-graph
output=.build/docs

say() { printf 'docs: %s\n' "$*" >&2; }

scripts/symbol-graph.sh "$graph"
python3 scripts/check-api.py "$graph" --undocumented

resources="$("${SWIFT:-swift}" -print-target-info |
    sed -n 's/.*"runtimeResourcePath": "\(.*\)".*/\1/p')"
docc="$(dirname "$resources")/../bin/docc"
if [[ ! -x "$docc" ]]; then
    say "this Swift has no $docc; take a toolchain of swift.org, or name it in SWIFT"
    exit 1
fi
rm -rf "$output"
"$docc" convert Sources/MoriEP/MoriEP.docc --additional-symbol-graph-dir "$graph" \
    --fallback-display-name MoriEP --fallback-bundle-identifier MoriEP \
    --fallback-default-module-kind Library \
    --warnings-as-errors --transform-for-static-hosting --hosting-base-path "$base" \
    --output-path "$output"
say "$output; to read it: python3 -m http.server --directory $output, then /documentation/moriep"
