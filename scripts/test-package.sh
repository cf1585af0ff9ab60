#!/usr/bin/env bash
# Tests what users of this repository get: a Swift package that depends on it by version, an installed
# tree, a program in C that finds it by pkg-config, and what Packaging/Containerfile assumes.
#
#   scripts/test-package.sh VERSION [--release]      make test-package says it
#
# The mori-ep that is installed is built for debugging, beside the package that depends on this one: a build
# for release with Swift's libraries in it shares nothing with others. --release: what make install builds.
set -euo pipefail
cd "$(dirname "$0")/.."

version="${1:?usage: $0 VERSION [--release]}"
release="${2:-}"
if [[ -n "$release" && "$release" != --release ]]; then
    echo "usage: $0 VERSION [--release]" >&2
    exit 2
fi
root="$PWD"
work="$root/.build-package"
# Elsewhere, so that nothing of this checkout is found by its place.
elsewhere="$(mktemp -d)"
prefix="$elsewhere/prefix"
trap 'rm -rf "$elsewhere"' EXIT
swift="${SWIFT:-swift}"

say() { printf 'test-package: %s\n' "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

# Runs a program with nothing of this checkout around it.
alone() { (cd / && env -i HOME="$elsewhere" PATH=/usr/bin:/bin "$@"); }

rm -rf "$work/stage"
mkdir -p "$work"

# ---------------------------------------------------------------------------------------------
# A package that depends on this one by version

# The checkout as it is, with what is not committed, under a version's tag.
repository="$work/MoriEP"
rm -rf "$repository"
git init --quiet "$repository"
git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do if [[ -e "$file" ]]; then printf '%s\0' "$file"; fi; done |
    tar --create --null --files-from=- | tar --extract --directory "$repository"
git -C "$repository" add --all
git -C "$repository" -c user.name=test -c user.email=test@example.org commit --quiet -m "$version"
git -C "$repository" tag "$version"

# Versions that were resolved before are others: this tag moves.
consumer="$work/package"
scratch="$work/consumer"
rm -rf "$scratch/repositories" "$scratch/checkouts" "$scratch/workspace-state.json" "$work/security" \
    "$consumer"
cp -r Tests/Packaging/Consumer "$consumer"

options=(--package-path "$consumer" --scratch-path "$scratch" --security-path "$work/security"
    --disable-index-store --static-swift-stdlib)
export CONSUMER_REPOSITORY="file://$repository" CONSUMER_TRAITS

# Builds the consumer with these traits; the path of its program in `program`.
consume() {
    CONSUMER_TRAITS="$1"
    "$swift" build "${options[@]}" --product Consumer
    program="$("$swift" build "${options[@]}" --show-bin-path)/Consumer"
}

consume default
say "with the default traits: $("$program")"
# Not through grep -q, which ends at the first match: ldd may then be killed while it writes.
[[ "$(ldd "$program")" == *libibverbs* ]] || fail "the trait RDMA is on by default, and libibverbs not linked"
built=""
if [[ -z "$release" ]]; then
    "$swift" build "${options[@]}" --product mori-ep
    built="$elsewhere/mori-ep"
    cp "$(dirname "$program")/mori-ep" "$built"
fi
consume none
say "without traits: $("$program")"
if ldd "$program" | grep -E 'libibverbs|librdmacm|libnuma'; then
    fail "without traits, libraries of RDMA are linked all the same"
fi

# The program of the first article, as a reader types it.
awk '/^```swift$/ { inside = 1; text = ""; next }
     /^```$/ { if (inside && text ~ /@main/) printf "%s", text; inside = 0 }
     inside { text = text $0 "\n" }' Sources/MoriEP/MoriEP.docc/GettingStarted.md \
    >"$consumer/Sources/Consumer/Consumer.swift"
consume none
output="$("$program" | sort)"
[[ "$output" == $'rank 0: 6 rows came, 3.0 came back\nrank 1: 6 rows came, 3.0 came back' ]] ||
    fail "the program of GettingStarted.md says: $output"
say "the program of GettingStarted.md says what the article says"

# ---------------------------------------------------------------------------------------------
# The installed tree

# A path that is none is refused before anything is built.
if make --no-print-directory install PREFIX=somewhere >"$work/refused.log" 2>&1; then
    fail "make install takes a relative PREFIX"
fi
grep -q 'is no absolute path' "$work/refused.log" || fail "$(cat "$work/refused.log")"

make --no-print-directory install PREFIX="$prefix" PROGRAM="$built"

export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
[[ "$(pkg-config --modversion moriep)" == "$version" ]] || fail "moriep.pc has another version"
# Word splitting is meant: these are options.
# shellcheck disable=SC2046
cc -std=c11 -Wall -Wextra -Wpedantic -Werror $(pkg-config --cflags moriep) Tests/Packaging/C/main.c \
    $(pkg-config --libs moriep) "-Wl,-rpath,$(pkg-config --variable=libdir moriep)" -o "$elsewhere/program"
say "the program in C says: $(alone "$elsewhere/program")"
unset PKG_CONFIG_PATH

program="$prefix/bin/mori-ep"
if ldd "$program" | grep -E 'libswift|libFoundation|not found'; then
    fail "mori-ep needs libraries of Swift, or ones that are not here"
fi
# Kernels that were built are installed; without them the message tells where they were looked for.
for kind in amd nvidia; do
    if [[ -f ".build/kernels/libmoriep_$kind.so" ]]; then
        cmp ".build/kernels/libmoriep_$kind.so" "$prefix/lib/libmoriep_$kind.so"
        rm "$prefix/lib/libmoriep_$kind.so"
    fi
done
alone "$program" info >"$work/info.log"
grep -q 'host:0: ' "$work/info.log" || fail "mori-ep info: $(cat "$work/info.log")"
for kind in amd nvidia; do
    grep -q "$prefix/lib/libmoriep_$kind.so" "$work/info.log" ||
        fail "mori-ep looks for libmoriep_$kind.so elsewhere: $(cat "$work/info.log")"
done
ranks="$(alone "$program" launch -n 2 -- sh -c 'echo "rank $RANK of $WORLD_SIZE"' | sort)"
[[ "$ranks" == *"rank 0 of 2"*"rank 1 of 2"* ]] || fail "mori-ep launch says: $ranks"
# Status 1: it found something to mend on this machine.
report="$(alone "$program" doctor --json)" || [[ $? == 1 ]] || fail "mori-ep doctor --json ended with $?"
python3 -c 'import json, sys; json.load(sys.stdin)' <<<"$report" || fail "mori-ep doctor --json gives no JSON"

make --no-print-directory uninstall PREFIX="$prefix"
[[ -z "$(find "$prefix" -type f -o -type l)" ]] ||
    fail "make uninstall leaves $(find "$prefix" -type f -o -type l)"

# For packages of a distribution: below DESTDIR, and without a word about it inside.
make --no-print-directory install PREFIX=/usr LIBDIR=/usr/lib/moriep DESTDIR="$work/stage" \
    PROGRAM="$built" 2>"$work/stage.log"
for file in usr/bin/mori-ep usr/lib/moriep/libmoriep_host.so usr/lib/moriep/pkgconfig/moriep.pc \
    usr/include/moriep/moriep.h usr/include/moriep/moriep_operator.h \
    usr/include/moriep/moriep_trace.h; do
    [[ -e "$work/stage/$file" ]] || fail "there is no DESTDIR/$file"
done
if grep -q "$work" "$work/stage/usr/lib/moriep/pkgconfig/moriep.pc"; then
    fail "moriep.pc names DESTDIR"
fi
say "the installed tree is complete"

# ---------------------------------------------------------------------------------------------
# The container recipe, as far as it can be checked without an engine

scripts/check-container.py "$work/stage"
