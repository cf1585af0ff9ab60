#!/usr/bin/env bash
# Completes the distribution's ROCm device libraries for GPUs that are newer than they are.
#
#   scripts/rocm-bitcode.sh CLANG FOLDER
#
# The device libraries are portable LLVM bitcode, but for one constant that names the instruction
# set, in a file of its own for each GPU. clang refuses a GPU whose file is missing. FOLDER gets
# links to the installed files, and the missing constants for gfx942 and gfx950.
set -euo pipefail

if (($# != 2)); then
    echo "usage: $0 CLANG FOLDER" >&2
    exit 2
fi
clang="$1"
folder="$2"

installed=""
for candidate in /usr/lib/*/amdgcn/bitcode /usr/lib/amdgcn/bitcode /usr/share/amdgcn/bitcode; do
    if [[ -f "$candidate/ockl.bc" ]]; then
        installed="$candidate"
        break
    fi
done
if [[ -z "$installed" ]]; then
    echo "rocm-bitcode: no ROCm device libraries found (Debian: package rocm-device-libs)" >&2
    exit 1
fi

mkdir -p "$folder"
for file in "$installed"/*.bc; do ln -sf "$file" "$folder/"; done

# Writes the constant of one instruction set: the digits after gfx, and its number.
complete() {
    local file="$folder/oclc_isa_version_$1.bc"
    if [[ -e "$file" ]]; then return; fi
    # What the device libraries themselves declare: internal to each code object that links it.
    "$clang" -target amdgcn-amd-amdhsa -nogpulib -x ir -c -emit-llvm -O0 -o "$file" - <<IR
target triple = "amdgcn-amd-amdhsa"
@__oclc_ISA_version = linkonce_odr protected local_unnamed_addr addrspace(4) constant i32 $2, align 4
IR
}

complete 942 9402
complete 950 9500
