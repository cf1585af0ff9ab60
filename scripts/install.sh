#!/usr/bin/env bash
# Installs, or removes, what others need of this checkout; make install and make uninstall say it.
#
#   scripts/install.sh install|uninstall PREFIX LIBDIR VERSION [PROGRAM]
#
#   PROGRAM: a mori-ep that was built before; else it is built for release
#
#   PREFIX/bin/mori-ep                  the command line, with Swift's libraries linked in
#   LIBDIR/libmoriep_host.so            the host device for programs in C, and a name with its version
#   LIBDIR/libmoriep_amd.so, _nvidia.so the GPUs' kernels, where they were built before
#   PREFIX/include/moriep               the C ABI: moriep.h and what it includes
#   LIBDIR/pkgconfig/moriep.pc          how programs in C find it
#
# DESTDIR goes before all of it, for packages of a distribution. Builds first what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

action="${1:-}"
prefix="${2:-}"
libdir="${3:-}"
version="${4:-}"
program="${5:-}"
destination="${DESTDIR:-}"

fail() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

if [[ "$action" != install && "$action" != uninstall || -z "$version" ]]; then
    echo "usage: $0 install|uninstall PREFIX LIBDIR VERSION [PROGRAM]" >&2
    exit 2
fi
# What is installed is found by these paths later, from any folder.
for path in "$prefix" "$libdir"; do
    if [[ "$path" != /* ]]; then
        fail "\"$path\" is no absolute path; say for example: make install PREFIX=\$HOME/.local"
    fi
done

interface="$(sed -n 's/^#define MORIEP_API_VERSION \([0-9]*\)u$/\1/p' Sources/CHIP/moriep.h)"
headers=(moriep.h moriep_operator.h moriep_trace.h)
bin="$destination$prefix/bin"
lib="$destination$libdir"
include="$destination$prefix/include/moriep"

remove() {
    rm -f "$bin/mori-ep" "$lib"/libmoriep_{host,amd,nvidia}.so "$lib/libmoriep_host.so.$interface" \
        "$lib/pkgconfig/moriep.pc" "${headers[@]/#/$include/}"
    if [[ -d "$include" ]]; then rmdir --ignore-fail-on-non-empty "$include"; fi
}

if [[ "$action" == uninstall ]]; then
    remove
    exit
fi

scripts/build-kernels.sh host
if [[ -z "$program" ]]; then
    "${SWIFT:-swift}" build -c release --product mori-ep --static-swift-stdlib
    program="$("${SWIFT:-swift}" build -c release --show-bin-path)/mori-ep"
fi

install -d "$bin" "$lib/pkgconfig" "$include"
install -m 755 "$program" "$bin/mori-ep"
install -m 644 .build/kernels/libmoriep_host.so "$lib/libmoriep_host.so.$interface"
ln -sf "libmoriep_host.so.$interface" "$lib/libmoriep_host.so"
for kind in amd nvidia; do
    if [[ -f ".build/kernels/libmoriep_$kind.so" ]]; then
        install -m 644 ".build/kernels/libmoriep_$kind.so" "$lib/"
    fi
done
install -m 644 "${headers[@]/#/Sources/CHIP/}" "$include/"
sed -e "s|@PREFIX@|$prefix|" -e "s|@LIBDIR@|$libdir|" -e "s|@VERSION@|$version|" \
    Packaging/moriep.pc.in >"$lib/pkgconfig/moriep.pc"
chmod 644 "$lib/pkgconfig/moriep.pc"
printf 'install: %s\n' "$bin/mori-ep" "$lib"/libmoriep_*.so "$include" "$lib/pkgconfig/moriep.pc" >&2
