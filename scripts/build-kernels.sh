#!/usr/bin/env bash
# Builds the kernels' shared object for one kind of device.
#
#   scripts/build-kernels.sh amd      .build/kernels/libmoriep_amd.so
#   scripts/build-kernels.sh nvidia   .build/kernels/libmoriep_nvidia.so
#   scripts/build-kernels.sh host     .build/kernels/libmoriep_host.so, for programs in C
#   scripts/build-kernels.sh amd|nvidia primitives   beside it, what PrimitiveTests run on the GPU:
#                                     .build/kernels/libprimitives_amd.so or _nvidia.so
#
# AMD: $ROCM_PATH/bin/hipcc where there is one; else clang with the distribution's HIP headers, the
# device libraries completed by rocm-bitcode.sh; else the distribution's hipcc. All GPUs of
# MORI_EP_ARCHITECTURES that the compiler knows go into one library.
# NVIDIA: $CUDA_PATH/bin/nvcc where there is one; else nvcc from Python wheels (setup.sh nvidia).
# Host: Swift's clang, or $CXX.
# MORI_EP_TRACES=0 leaves out the kernels that leave traces, which take half of the time and the space.
# Does nothing when the library is newer than its sources.
set -euo pipefail
cd "$(dirname "$0")/.."

backend="${1:-}"
output=.build/kernels
library="$output/libmoriep_$backend.so"
objects="$output/$backend"

say() { printf 'kernels: %s\n' "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

# No contraction to fused multiply-add: sums must have the same bits on every machine.
flags=(-std=c++20 -O3 -IKernels -ISources/CHIP)
host_sources=()
for source in Kernels/Runtime/GPU/*.cpp; do
    if [[ "$source" != *Kernels.cpp ]]; then host_sources+=("$source"); fi
done
# What is compiled for the device: the kernels, and once more those that leave traces.
device_sources=(Kernels/Runtime/GPU/Kernels.cpp Kernels/Runtime/GPU/TracedKernels.cpp)
if [[ "${MORI_EP_TRACES:-1}" == 0 ]]; then
    device_sources=(Kernels/Runtime/GPU/Kernels.cpp)
    flags+=(-DMORI_WITHOUT_TRACES)
fi

# Runs commands two at a time: each compiler takes a core, and CI has two.
run_parallel() {
    local running=() process status=0 command
    for command in "$@"; do
        if ((${#running[@]} == 2)); then
            wait "${running[0]}" || status=1
            running=("${running[@]:1}")
        fi
        bash -c "$command" &
        running+=("$!")
    done
    for process in "${running[@]}"; do wait "$process" || status=1; done
    return "$status"
}

# Quotes a command for run_parallel.
quoted() { printf '%q ' "$@"; }

# Whether the library is what these sources and this configuration give.
up_to_date() {
    [[ -f "$library" && -f "$objects/configuration" ]] || return 1
    [[ "$(cat "$objects/configuration")" == "$1" ]] || return 1
    local newer
    newer="$(find Kernels Sources/CHIP scripts -type f -newer "$library" \
        \( -name '*.h' -o -name '*.inc' -o -name '*.cpp' -o -name '*.sh' -o -name '*.map' \) -print -quit)"
    [[ -z "$newer" ]]
}

# The compiler for AMD and its options, in the variables compiler and device.
choose_amd_compiler() {
    local rocm="${ROCM_PATH:-/opt/rocm}" version
    device=()
    if [[ -x "$rocm/bin/hipcc" ]]; then
        compiler=("$rocm/bin/hipcc")
        link=(-ldl)
        host=("${compiler[@]}" -x c++ "-I$rocm/include")
        return
    fi
    for version in 19 20 21 22 18 17; do
        if ! command -v "clang++-$version" >/dev/null; then continue; fi
        if [[ ! -f /usr/include/hip/hip_runtime.h ]]; then continue; fi
        compiler=("clang++-$version")
        bash scripts/rocm-bitcode.sh "clang-$version" "$output/bitcode"
        device=("--rocm-device-lib-path=$output/bitcode")
        host=("${compiler[@]}" -x c++)
        link=(-lamdhip64 -ldl)
        return
    done
    if command -v hipcc >/dev/null; then
        compiler=(hipcc)
        host=(hipcc -x c++)
        link=(-ldl)
        return
    fi
    fail "no compiler for AMD GPUs: neither $rocm/bin/hipcc, nor clang 17 or newer with HIP's" \
        "headers, nor hipcc. scripts/setup.sh kernels installs one; ROCM_PATH names another."
}

# Which of the wanted GPUs the compiler can compile an empty kernel for.
probe_architectures() {
    local architecture
    architectures=()
    local probe="$output/probe"
    mkdir -p "$probe"
    printf '#include <hip/hip_runtime.h>\n__global__ void probe() {}\n' >"$probe/probe.hip"
    for architecture in ${MORI_EP_ARCHITECTURES:-gfx90a gfx942 gfx950}; do
        if "${compiler[@]}" -x hip "--offload-arch=$architecture" ${device[@]+"${device[@]}"} \
            -c "$probe/probe.hip" -o "$probe/probe.o" >"$probe/probe.log" 2>&1; then
            architectures+=("$architecture")
        else
            say "${compiler[0]} does not compile for $architecture"
        fi
    done
    if ((${#architectures[@]} == 0)); then
        cat "$probe/probe.log" >&2
        fail "${compiler[0]} compiles for none of the GPUs"
    fi
}

build_amd() {
    # Debian's hipcc would else look for nvcc.
    export HIP_PLATFORM=amd
    choose_amd_compiler
    local configuration
    configuration="${compiler[*]} ${device[*]-} ${MORI_EP_ARCHITECTURES:-} ${flags[*]}"
    if up_to_date "$configuration"; then return; fi
    rm -f "$library" "$objects"/*.o
    probe_architectures
    say "${compiler[0]} for ${architectures[*]}"
    local common=("${flags[@]}" -ffp-contract=off -fPIC -fvisibility=hidden -Wall -Wextra)
    local offload=() commands=() source
    for source in "${architectures[@]}"; do offload+=("--offload-arch=$source"); done
    for source in "${device_sources[@]}"; do
        commands+=("$(quoted "${compiler[@]}" -x hip "${offload[@]}" ${device[@]+"${device[@]}"} \
            "${common[@]}" -c "$source" -o "$objects/$(basename "$source" .cpp).o")")
    done
    for source in "${host_sources[@]}"; do
        commands+=("$(quoted "${host[@]}" -D__HIP_PLATFORM_AMD__ \
            "-DMORI_EP_ARCHITECTURES=\"${architectures[*]}\"" "${common[@]}" \
            -c "$source" -o "$objects/$(basename "$source" .cpp).o")")
    done
    # Debian's hipcc asks for the GPUs that are there and prints that there are none.
    run_parallel "${commands[@]}" 2> >(without_enumerator >&2)
    "${compiler[@]}" -shared "$objects"/*.o ${link[@]+"${link[@]}"} \
        -Wl,--version-script=scripts/exports.map -Wl,-z,defs -Wl,-z,nodelete \
        -o "$library" 2> >(without_enumerator >&2)
    printf '%s\n' "$configuration" >"$objects/configuration"
}

# Drops the harmless traceback of rocm_agent_enumerator.
without_enumerator() {
    sed -e '/^Traceback (most recent call last):$/,/^[A-Za-z]*Error/d'
}

build_nvidia() {
    local cuda="${CUDA_PATH:-/usr/local/cuda}" wheels=.cache/nvidia/nvidia
    if [[ -x "$cuda/bin/nvcc" ]]; then
        nvcc="$cuda/bin/nvcc"
    elif compgen -G "$wheels/cu*/bin/nvcc" >/dev/null; then
        nvcc="$(compgen -G "$wheels/cu*/bin/nvcc" | sort -V | tail -1)"
    elif command -v nvcc >/dev/null; then
        nvcc=nvcc
    else
        fail "no compiler for NVIDIA GPUs: scripts/setup.sh nvidia installs one;" \
            "CUDA_PATH names another."
    fi
    if up_to_date "$nvcc ${flags[*]}"; then return; fi
    rm -f "$library" "$objects"/*.o
    say "$nvcc for sm_90"
    local common=("${flags[@]}" -Xcompiler "-fPIC,-fvisibility=hidden,-Wall,-Wextra")
    common+=(-Xcompiler -ffp-contract=off)
    local commands=() source
    for source in "${device_sources[@]}"; do
        commands+=("$(quoted "$nvcc" -x cu -arch=sm_90 -fmad=false "${common[@]}" \
            -c "$source" -o "$objects/$(basename "$source" .cpp).o")")
    done
    for source in "${host_sources[@]}"; do
        commands+=("$(quoted "$nvcc" -x c++ '-DMORI_EP_ARCHITECTURES="sm_90"' "${common[@]}" \
            -c "$source" -o "$objects/$(basename "$source" .cpp).o")")
    done
    run_parallel "${commands[@]}"
    # CUDA's runtime is linked in, so that the library opens on machines without CUDA.
    "$nvcc" -shared -arch=sm_90 -cudart static "$objects"/*.o \
        -Xlinker --version-script=scripts/exports.map -Xlinker -z,defs -Xlinker -z,nodelete \
        -o "$library"
    printf '%s\n' "$nvcc ${flags[*]}" >"$objects/configuration"
}

# Without the tools of the checked build: what programs in C get is what Swift programs run.
build_host() {
    local clang="${CXX:-}"
    if [[ -z "$clang" ]]; then clang="$(dirname "$(readlink -f "$(command -v swift)")")/clang++"; fi
    if ! command -v "$clang" >/dev/null; then
        fail "no compiler for the host device: neither Swift's clang++ ($clang) nor CXX"
    fi
    if up_to_date "$clang"; then return; fi
    rm -f "$library" "$objects"/*.o
    say "$clang for $(uname -m)"
    local commands=() source
    while read -r source; do
        commands+=("$(quoted "$clang" "${flags[@]}" -IKernels/Runtime/include -ffp-contract=off -fPIC -fvisibility=hidden \
            -Wall -Wextra -c "$source" -o "$objects/$(basename "$source" .cpp).o")")
    done < <(find Kernels/Runtime/Host Kernels/Runtime/Library -name '*.cpp' \
        -not -path '*/Checked/*' | sort)
    run_parallel "${commands[@]}"
    # Programs ask for the version of the C ABI, and get it or none.
    local version
    version="$(sed -n 's/^#define MORIEP_API_VERSION \([0-9]*\)u$/\1/p' Sources/CHIP/moriep.h)"
    "$clang" -shared "$objects"/*.o -pthread "-Wl,-soname,libmoriep_host.so.$version" \
        -Wl,--version-script=scripts/exports.map -Wl,-z,defs -Wl,-z,nodelete -o "$library"
    printf '%s\n' "$clang" >"$objects/configuration"
}

# The primitives alone, for tests on the GPU.
build_primitives() {
    local source=Tests/Primitives/GPU/Primitives.cpp into="$output/libprimitives_$backend.so" offload
    flags+=(-ITests/Primitives)
    if [[ "$backend" == amd ]]; then
        probe_architectures
        offload=("${architectures[@]/#/--offload-arch=}")
        "${compiler[@]}" -x hip "${offload[@]}" ${device[@]+"${device[@]}"} "${flags[@]}" \
            -ffp-contract=off -fPIC -c "$source" -o "$objects/primitives.object"
        "${compiler[@]}" -shared "$objects/primitives.object" ${link[@]+"${link[@]}"} -o "$into"
    else
        "$nvcc" -x cu -arch=sm_90 -fmad=false "${flags[@]}" -Xcompiler -fPIC,-ffp-contract=off \
            -shared "$source" -o "$into"
    fi
    say "$into"
}

case "$backend" in
    amd | nvidia) ;;
    host)
        if [[ -n "${2:-}" ]]; then
            echo "usage: $0 host; the host device's primitives are part of the tests" >&2
            exit 2
        fi
        ;;
    *)
        echo "usage: $0 host|amd|nvidia [primitives]" >&2
        exit 2
        ;;
esac
mkdir -p "$objects"
"build_$backend"
say "$library"
if [[ "${2:-}" == primitives ]]; then build_primitives; fi
