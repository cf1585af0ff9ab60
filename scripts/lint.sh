#!/usr/bin/env bash
# Checks form and layering; changes nothing (make format does).
set -euo pipefail
cd "$(dirname "$0")/.."

clang_format=clang-format-19
failed=0

say() { printf 'lint: %s\n' "$*" >&2; }

# 1. Swift's own formatter, with every rule an error.
folders=()
for folder in Sources Tests Benchmarks Examples; do
    if [[ -d "$folder" ]]; then folders+=("$folder"); fi
done
"${SWIFT:-swift}" format lint --strict --parallel --recursive "${folders[@]}" Package.swift || failed=1

# 2. C and C++.
mapfile -t files < <(find Kernels Sources Benchmarks Examples/*/Sources Tests/Emulator Tests/Packaging Tests/Primitives -type f \
    \( -name '*.h' -o -name '*.c' -o -name '*.cpp' \) | sort)
"$clang_format" --dry-run -Werror "${files[@]}" || failed=1

# The emulator's mutants are patches of the kernels' sources; they are made only where it is.
python3 Tests/Emulator/mutants.py check Kernels || failed=1

# 3. Arrows point down only: who may import the C modules.
# Files below the given folders that import a module.
importers() {
    local module="$1" pattern
    shift
    pattern="^[[:space:]]*(@[A-Za-z_]+(\([^)]*\))?[[:space:]]+)*"
    pattern+="((public|package|internal|fileprivate|private)[[:space:]]+)?"
    pattern+="import[[:space:]]+$module([[:space:]]|\$)"
    grep -rlE --include='*.swift' "$pattern" "$@" || true
}

# only MODULE WHO WHERE: nothing else imports the module; WHERE is a pattern of paths.
only() {
    local module="$1" who="$2" where="$3" file
    while read -r file; do
        say "$file imports $module; only $who may"
        failed=1
    done < <(importers "$module" Sources Benchmarks | grep -vE "^Sources/($where)/" || true)
}

only CHIP "MoriDevice and MoriEP's Kernels" 'MoriDevice|MoriEP/Kernels'
only CDLPack MoriDevice MoriDevice
only CSodium "MoriShmem's Bootstrap" MoriShmem/Bootstrap
for module in CIBVerbs CRDMACM CNUMA; do
    only "$module" "MoriShmem's Fabric/Verbs" MoriShmem/Fabric/Verbs
done

exit "$failed"
