#!/usr/bin/env bash
# Builds what `make test-emulated` runs: the AMD kernels as `make kernels` compiled them and the GPU
# runtime over them, on the stand-in of HIP and the emulator.
#
#   Tests/Emulator/build.sh              .build/kernels/libmoriep_emulated.so
#   Tests/Emulator/build.sh translate    beside it, what the emulator runs the kernels by; and in
#                                        .build/kernels/emulated the primitives' kernels and the
#                                        mutants, each with its translation. Wants TINYGRAD.
set -euo pipefail
shopt -s extglob
cd "$(dirname "$0")/../.."

output=.build/kernels
objects="$output/emulated"
kernels=("$output/amd/Kernels.o")
# MORI_EP_TRACES=0 leaves out the kernels that leave traces.
traces=(-DMORI_WITHOUT_TRACES)
if [[ -f "$output/amd/TracedKernels.o" ]]; then
    kernels+=("$output/amd/TracedKernels.o")
    traces=()
fi
library="$output/libmoriep_emulated.so"

say() { printf 'emulator: %s\n' "$*" >&2; }

compiler=clang++
for version in 19 20 21 22 18 17; do
    if command -v "clang++-$version" >/dev/null; then
        compiler="clang++-$version"
        break
    fi
done

# What is compiled for the device.
device_sources=(Sources/CHIP Kernels/Device Kernels/Layout Kernels/Shmem Kernels/IntraNode
    Kernels/InterNode Kernels/InterNodeV1 Kernels/StandardMoE Kernels/Runtime/BlockMemory.h
    Kernels/Runtime/KernelTypes.h Kernels/Runtime/GPU/Kernels.cpp Kernels/Runtime/GPU/Kernels.h
    Kernels/Runtime/GPU/Kernels.inc Kernels/Runtime/GPU/Entries.h)

# Whether a file is newer than all sources below the given folders and the given files.
is_newer() {
    local file="$1"
    shift
    [[ -f "$file" ]] || return 1
    [[ -z "$(find "$@" -type f -newer "$file" \
        \( -name '*.h' -o -name '*.cpp' -o -name '*.sh' -o -name '*.inc' -o -name '*.py' \
        -o -name '*.o' -o -name '*.c' -o -name '*.co' -o -name '*.map' \) -print -quit)" ]]
}

build() {
    local source process
    mkdir -p "$objects"
    if is_newer "$library" Kernels Sources/CHIP "${kernels[@]}" Tests/Emulator/HIP \
        Tests/Emulator/Machine Tests/Emulator/build.sh Tests/Emulator/exports.map \
        Tests/Emulator/OtherLibrary.c; then
        return
    fi
    rm -f "$objects"/*.o
    local flags=(-x c++ -std=c++20 -O2 -fPIC -fvisibility=hidden -fno-strict-aliasing
        -ffp-contract=off -Wall -Wextra -D__HIP_PLATFORM_AMD__ -DMORI_EMULATED ${traces[@]+"${traces[@]}"}
        '-DMORI_EP_ARCHITECTURES="gfx942"'
        ${ROCM_PATH:+-I"$ROCM_PATH/include"} -IKernels -ISources/CHIP -ITests/Emulator
        -ITests/Emulator/HIP/include)
    local running=()
    for source in Kernels/Runtime/GPU/*.cpp Tests/Emulator/HIP/*.cpp Tests/Emulator/Machine/*.cpp; do
        if [[ "$source" == */GPU/*Kernels.cpp ]]; then continue; fi
        "$compiler" "${flags[@]}" -c "$source" -o "$objects/${source//\//_}.o" &
        running+=("$!")
        # Two at a time.
        if ((${#running[@]} == 2)); then
            wait "${running[0]}"
            running=("${running[1]}")
        fi
    done
    for process in ${running[@]+"${running[@]}"}; do wait "$process"; done
    # What refuses traces: a library without the kernels for them.
    local parts=()
    mkdir -p "$objects/without"
    for source in "$objects"/*.o; do
        if [[ "$source" != *_GPU_@(Table|Launch|Device|Clock).cpp.o ]]; then parts+=("$source"); fi
    done
    for source in Table Launch Device Clock; do
        "$compiler" "${flags[@]}" -DMORI_WITHOUT_TRACES -c "Kernels/Runtime/GPU/$source.cpp" \
            -o "$objects/without/$source.o"
    done
    "$compiler" -shared "${parts[@]}" "$objects"/without/*.o "${kernels[0]}" -Wl,-Bsymbolic -ldl -lpthread \
        -Wl,--version-script=Tests/Emulator/exports.map -Wl,-z,defs -o "$objects/libwithout_traces.so"
    # What is refused: a library of version 7 of the interface, and one of another header.
    local version
    for version in "$(sed -n 's/^#define MORIEP_API_VERSION \([0-9]*\)u$/\1/p' Sources/CHIP/moriep.h)" 7; do
        "$compiler" -x c -shared -fPIC "-DOTHER_VERSION=$version" Tests/Emulator/OtherLibrary.c \
            -o "$objects/libother$version.so"
    done
    # Its own HIP first: a real libamdhip64 in the process must not be taken for it.
    "$compiler" -shared "$objects"/*.o "${kernels[@]}" -Wl,-Bsymbolic -ldl -lpthread \
        -Wl,--version-script=Tests/Emulator/exports.map -Wl,-z,defs -Wl,-z,nodelete -o "$library"
    say "$library"
}

# Writes the translation of a library or code object beside it.
translate() {
    local translation="${1%.*}.translation.so"
    if is_newer "$translation" Tests/Emulator/Translate Tests/Emulator/Machine/Translation.h "$2"; then
        return
    fi
    python3 Tests/Emulator/Translate/translate.py "$1" "$translation"
}

# Compiles kernels for gfx942 into a bare code object: SOURCE OUTPUT, and options.
compile_device() {
    local source="$1" object="$2" device
    shift 2
    if [[ -x "${ROCM_PATH:-/opt/rocm}/bin/hipcc" ]]; then
        device=("${ROCM_PATH:-/opt/rocm}/bin/hipcc")
    else
        device=("$compiler" "--rocm-device-lib-path=$output/bitcode")
    fi
    "${device[@]}" -x hip --offload-arch=gfx942 --offload-device-only --no-gpu-bundle-output \
        -std=c++20 -O3 -ffp-contract=off -Wall -Wextra "$@" -c "$source" -o "$object"
}

# The kernels' primitives alone.
build_primitives() {
    local object="$objects/primitives.co"
    if ! is_newer "$object" "${device_sources[@]}" Tests/Primitives; then
        compile_device Tests/Primitives/GPU/Primitives.cpp "$object" -DPRIMITIVES_DEVICE_ONLY \
            -IKernels -ISources/CHIP -ITests/Primitives
    fi
    translate "$object" "$object"
}

# The kernels with one deliberate mistake.
build_mutant() {
    local name="$1" object="$objects/$1.co"
    if ! is_newer "$object" "${device_sources[@]}" Tests/Emulator/mutants.py; then
        rm -rf "${objects:?}/$name"
        python3 Tests/Emulator/mutants.py make "$name" Kernels "$objects/$name"
        say "mutant $name"
        compile_device "$objects/$name/Runtime/GPU/Kernels.cpp" "$object" \
            -I"$objects/$name" -ISources/CHIP
    fi
    translate "$object" "$object"
}

# All of them, two at a time.
build_mutants() {
    local name process running=()
    for name in $(python3 Tests/Emulator/mutants.py list); do
        build_mutant "$name" &
        running+=("$!")
        if ((${#running[@]} == 2)); then
            wait "${running[0]}"
            running=("${running[1]}")
        fi
    done
    for process in ${running[@]+"${running[@]}"}; do wait "$process"; done
}

build
if [[ "${1:-}" == translate ]]; then
    translate "$library" "$kernels"
    build_primitives
    build_mutants
fi
