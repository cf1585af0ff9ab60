#!/usr/bin/env bash
# Installs what the Makefile's targets need on Debian and Ubuntu; says nothing when all is there.
#
#   scripts/setup.sh            build, test and bench: RDMA and NUMA headers, a C++ standard library
#   scripts/setup.sh kernels    the same for the AMD kernels: HIP's headers, clang, LLVM's tools
#   scripts/setup.sh nvidia     the same for the NVIDIA kernels: nvcc from Python wheels
#   scripts/setup.sh emulator   for test-emulated: the same as kernels, and what reads code objects
#   scripts/setup.sh lint       the formatter of the C and C++ files, at the pinned version
#   scripts/setup.sh instructions
#                               what bench-instructions counts with: valgrind
#   scripts/setup.sh peers      what bench-peers measures beside us: Open MPI, PyTorch; matplotlib
#   scripts/setup.sh launchers  what test-launchers starts ranks with: Open MPI, Slurm and its munge
#   scripts/setup.sh browser    chromium, in which a test draws the page of mori-ep trace report
#   scripts/setup.sh models     spin and a C compiler for what it generates
#   scripts/setup.sh docs       what docs and test-api read symbol graphs with: Python
#   scripts/setup.sh package    what test-package compiles a program in C with
#   scripts/setup.sh server     what checks the example server: wrk, a browser, Python
#   scripts/setup.sh rdma-lab   what test-rdma's virtual machines are made of: qemu, Debian's kernel
#
# Swift and git are expected to be there. Several arguments may be given.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

installed() {
    [[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null || true)" == installed ]]
}

# Asks for one of several alternatives that would do; an alternative is a package, or several that
# belong together, joined by '+'. Which of them the distribution knows is only asked once apt's
# lists are fresh.
want() {
    local alternative package complete
    for alternative in "$@"; do
        complete=yes
        for package in ${alternative//+/ }; do
            if ! installed "$package"; then complete=no; fi
        done
        if [[ "$complete" == yes ]]; then return; fi
    done
    # Two parts may ask for the same.
    for alternative in ${packages[@]+"${packages[@]}"}; do
        if [[ "$alternative" == "$*" ]]; then return; fi
    done
    packages+=("$*")
}

want_build() {
    want make
    want pkg-config pkgconf
    want libibverbs-dev
    want librdmacm-dev
    want libnuma-dev
    want libsodium-dev
    want libdlpack-dev
    # Swift's clang compiles the host device's C++ and brings no standard library of its own.
    if ! compgen -G '/usr/include/c++/*/vector' >/dev/null; then want g++; fi
}

want_kernels() {
    want make
    want python3
    # A ROCm of the user's own has the compiler, the headers and the libraries.
    if [[ -x "${ROCM_PATH:-/opt/rocm}/bin/hipcc" ]]; then return; fi
    want hipcc
    want libamdhip64-dev
    want rocm-device-libs
    # clang knows newer GPUs than the hipcc of the distributions; 17 is the first with gfx942.
    local versions=() version
    for version in 19 20 21 18 17; do
        # The bundler of code objects is one of clang's tools.
        versions+=("clang-$version+clang-tools-$version+lld-$version+llvm-$version")
    done
    want "${versions[@]}"
}

want_nvidia() {
    want make
    if [[ -x "${CUDA_PATH:-/usr/local/cuda}/bin/nvcc" ]]; then return; fi
    if ! have g++; then want g++; fi
    if ! python3 -m pip --version >/dev/null 2>&1; then want python3-pip; fi
}

want_emulator() {
    want_kernels
    want python3-msgpack
    want python3-numpy
}

want_lint() {
    want make
    want python3
    want clang-format-19
}

want_model() {
    want python3
}

want_instructions() {
    want python3
    want binutils
    want valgrind
}

want_peers() {
    want openmpi-bin
    want libopenmpi-dev
    # mpicxx is a wrapper of it.
    if ! have g++; then want g++; fi
    want python3
    want python3-numpy
    want python3-torch
    want python3-matplotlib
}

want_launchers() {
    want make
    want python3
    want openmpi-bin
    want slurmd
    want slurmctld
    want slurm-client
    want munge
}

want_browser() {
    if have chromium || have chromium-browser || have google-chrome; then return; fi
    want chromium
    # Chromium brings no letters of its own.
    want fonts-dejavu-core
}

want_models() {
    want make
    want python3
    want spin
    if ! have cc && ! have gcc && ! have clang; then want gcc; fi
    want libc6-dev
}

want_docs() {
    want make
    want python3
}

want_package() {
    want make
    want pkg-config pkgconf
    want python3
    want binutils
    if ! have cc; then want gcc; fi
    want libc6-dev
}

want_rdma_lab() {
    want_build
    want python3
    want qemu-system-x86
    want busybox-static
    want iproute2
    want ibverbs-providers
}

want_server() {
    want make
    want python3
    want wrk
    want_browser
}

# Runs apt-get as root.
apt() {
    local prefix=()
    if [[ "$(id -u)" != 0 ]]; then prefix=(sudo); fi
    "${prefix[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >&2
}

# The packages of the first alternative that the distribution has.
available() {
    local alternative package complete candidate
    for alternative in "$@"; do
        complete=yes
        for package in ${alternative//+/ }; do
            candidate="$(apt-cache policy "$package" 2>/dev/null | sed -n 's/^ *Candidate: //p')"
            if [[ -z "$candidate" || "$candidate" == '(none)' ]]; then complete=no; fi
        done
        if [[ "$complete" == yes ]]; then
            printf '%s\n' "${alternative//+/ }"
            return
        fi
    done
    return 1
}

install_packages() {
    if ((${#packages[@]} == 0)); then return; fi
    local firsts=() alternatives names chosen=()
    for alternatives in "${packages[@]}"; do
        names="${alternatives%% *}"
        firsts+=("${names//+/ }")
    done
    if [[ "$(id -u)" != 0 ]] && ! have sudo; then
        fail "these packages are missing, and neither root nor sudo is at hand to install them:" \
            "${firsts[*]}. Install them (apt-get install ${firsts[*]}) and run this again."
    fi
    say "installing ${firsts[*]}"
    apt update
    for alternatives in "${packages[@]}"; do
        # Word splitting is meant: the entry is a list of alternatives.
        # shellcheck disable=SC2086
        names="$(available $alternatives)" ||
            fail "this distribution has none of: $alternatives"
        # shellcheck disable=SC2206
        chosen+=($names)
    done
    apt install -y --no-install-recommends "${chosen[@]}"
}

# nvcc from Python wheels, pinned, in a folder of the checkout that git ignores.
install_nvcc() {
    if [[ -x "${CUDA_PATH:-/usr/local/cuda}/bin/nvcc" ]]; then return; fi
    local wheels=(
        nvidia-cuda-nvcc==13.5.37
        nvidia-cuda-runtime==13.5.37
        nvidia-cuda-crt==13.5.37
        nvidia-nvvm==13.5.37
        nvidia-cuda-cccl==13.3.5.0.6
    )
    local folder=.cache/nvidia stamp=.cache/nvidia/installed
    if [[ -f "$stamp" && "$(cat "$stamp")" == "${wheels[*]}" ]]; then return; fi
    say "installing nvcc into $folder"
    rm -rf "$folder"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile \
        --root-user-action=ignore --target "$folder" "${wheels[@]}" >&2
    printf '%s\n' "${wheels[*]}" >"$stamp"
}

# Debian's kernel with its modules (the virtual machines' own; nothing of it is installed here), in
# a folder of the checkout that git ignores. The flavour for clouds has no RDMA.
unpack_kernel() {
    local folder=.cache/rdma-lab/kernel package file attempt
    if compgen -G "$folder/boot/vmlinuz-*" >/dev/null; then return; fi
    rm -rf "$folder" "$folder.new"
    mkdir -p "$folder.new"
    # Without apt's lists, or with old ones, it cannot be found or fetched.
    for attempt in 1 2; do
        package="$(apt-cache depends linux-image-amd64 2>/dev/null |
            sed -n 's/^ *Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1)"
        if [[ -n "$package" ]] &&
            (cd "$folder.new" && apt-get -qq download "$package" >&2); then
            break
        fi
        if ((attempt == 2)); then
            fail "Debian's kernel (the package that linux-image-amd64 depends on) cannot be fetched"
        fi
        apt update
    done
    file="$(compgen -G "$folder.new/*.deb")"
    say "unpacking $package into $folder"
    dpkg -x "$file" "$folder.new"
    rm -rf "$file" "$folder.new/usr"
    mv "$folder.new" "$folder"
}

parts=("$@")
if ((${#parts[@]} == 0)); then parts=(build); fi
for part in "${parts[@]}"; do
    case "$part" in
        build | kernels | nvidia | emulator | lint | model | models | instructions | peers | launchers | docs | \
            package | server | rdma-lab | browser)
            "want_${part//-/_}"
            ;;
        *)
            fail "unknown part '$part'; known are build, kernels, nvidia, emulator, lint, model, models," \
                "instructions, peers, launchers, docs, package, server, rdma-lab and browser"
            ;;
    esac
done

if have apt-get && have dpkg-query; then
    install_packages
else
    say "no apt-get here: please see to it that ${packages[*]:-nothing} (Debian's names) are there"
fi
for part in "${parts[@]}"; do
    case "$part" in
        nvidia) install_nvcc ;;
        rdma-lab) unpack_kernel ;;
    esac
done
