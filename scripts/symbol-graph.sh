#!/usr/bin/env bash
# Writes what `import MoriEP` gives, with its documentation, as a symbol graph: the modules MoriDevice
# and MoriShmem in it, as MoriEP exports them. Builds the library first.
#
#   scripts/symbol-graph.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."

folder="${1:?usage: $0 FOLDER}"
swift="${SWIFT:-swift}"

"$swift" build --target MoriEP
products="$("$swift" build --show-bin-path)"
tools="$(dirname "$("$swift" -print-target-info | sed -n 's/.*"runtimeResourcePath": "\(.*\)".*/\1/p')")/../bin"

# C modules that the Swift ones were built with have to be found; whose they are, is SwiftPM's.
options=()
while read -r map; do
    options+=(-Xcc "-fmodule-map-file=$map")
done < <(find Sources "$products" -maxdepth 2 -name module.modulemap &&
    find "$products/../../checkouts" -maxdepth 5 -name module.modulemap)

rm -rf "$folder"
mkdir -p "$folder"
"$tools/swift-symbolgraph-extract" -module-name MoriEP -I "$products/Modules" \
    -target "$("$swift" -print-target-info | sed -n 's/.*"unversionedTriple": "\(.*\)".*/\1/p')" \
    -experimental-allowed-reexported-modules=MoriDevice,MoriShmem \
    -minimum-access-level public -skip-synthesized-members \
    "${options[@]}" -output-dir "$folder"
