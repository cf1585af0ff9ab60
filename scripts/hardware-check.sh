#!/usr/bin/env bash
# Runs what docs/hardware-status.md lists: everything that needs GPUs or NICs, in the order of that
# page, and goes on after a failure. A step whose hardware is not there is skipped, and says so.
#
#   make hardware-check
#   make hardware-check PEER=host2      and between this host and another one, which has the same
#                                       checkout at the same path and answers ssh
set -uo pipefail
cd "$(dirname "$0")/.."

swift="${SWIFT:-swift}"
peer="${PEER:-}"
passed=() failed=() skipped=()

have_amd() { compgen -G '/sys/class/kfd/kfd/topology/nodes/*/mem_banks' >/dev/null && [[ -e /dev/kfd ]]; }
have_nvidia() { [[ -e /dev/nvidiactl ]]; }
have_nic() { compgen -G '/sys/class/infiniband/*' >/dev/null; }
have_peer() { [[ -n "$peer" ]]; }
always() { true; }

# Eight ranks here and eight on the peer, as torchrun would start them.
two_hosts() {
    local host rank status=0 running=() variables
    for host in 0 1; do
        for rank in 0 1 2 3 4 5 6 7; do
            variables="RANK=$((host * 8 + rank)) WORLD_SIZE=16 LOCAL_RANK=$rank LOCAL_WORLD_SIZE=8"
            variables+=" MASTER_ADDR=$(hostname -f) MASTER_PORT=29400 MORI_EP_FABRIC=verbs"
            if ((host == 0)); then
                env $variables .build/release/bench-dispatch-combine "$@" &
            else
                ssh "$peer" "cd $PWD && env $variables .build/release/bench-dispatch-combine $*" &
            fi
            running+=("$!")
        done
    done
    for rank in "${running[@]}"; do wait "$rank" || status=1; done
    return "$status"
}

# step NAME CONDITION COMMAND...
step() {
    local name="$1" condition="$2"
    shift 2
    if ! "$condition"; then
        printf '=== %s: skipped (%s)\n' "$name" "${condition/have_/no }"
        skipped+=("$name")
        return
    fi
    printf '=== %s: %s\n' "$name" "$*"
    if "$@"; then passed+=("$name"); else failed+=("$name"); fi
}

tests='/(IntraNode|Launch|Round|Overflow|Graph|Disagreement|Failure|Lifetime|InterNodeRound|InterNodeSchedule|Quantization|QuantizedDispatch|Receive|StandardMoE|Numerics)Tests/'
primitives='PrimitiveTests|PrimitiveNumberTests'
bench=("$swift" run -c release bench-dispatch-combine)

for gpu in amd nvidia; do
    step "kernels-$gpu" "have_$gpu" make "kernels$([[ $gpu == nvidia ]] && echo -nvidia)"
    step "primitives-build-$gpu" "have_$gpu" scripts/build-kernels.sh "$gpu" primitives
    step "doctor-$gpu" "have_$gpu" env MORI_EP_DEVICE=$gpu "$swift" run mori-ep doctor
    step "primitives-$gpu" "have_$gpu" env MORI_EP_DEVICE=$gpu "$swift" test --filter "$primitives"
    step "rounds-$gpu" "have_$gpu" env MORI_EP_DEVICE=$gpu "$swift" test --filter "$tests"
    step "processes-$gpu" "have_$gpu" "${bench[@]}" --device $gpu --world process
    step "traces-$gpu" "have_$gpu" env MORI_EP_DEVICE=$gpu "$swift" test --filter \
        'TraceTests/(everyWaitEndsByASignal|halvesAreSeen|replaysOfAGraph|whatIsEnqueuedAfter)'
    step "trace-$gpu" "have_$gpu" "${bench[@]}" --device $gpu --world process --trace ".build/trace-$gpu.json"
    step "trace-report-$gpu" "have_$gpu" "$swift" run mori-ep trace report ".build/trace-$gpu.json"
done
step isa have_amd make test-isa
step sanitizer have_nvidia env MORI_EP_DEVICE=nvidia compute-sanitizer --tool memcheck \
    .build/debug/MoriEPPackageTests.xctest --testing-library swift-testing --filter "$primitives"
step nics have_nic "$swift" run mori-ep doctor
step verbs-host have_nic env MORI_EP_FABRIC=verbs "${bench[@]}" --device host --kernel internode-v1 \
    --ranks 4 --gpus-per-node 2
step bench-build have_peer "$swift" build -c release --product bench-dispatch-combine
for kernel in internode internode-v1 internode-v1ll async-ll; do
    step "two-hosts-$kernel" have_peer two_hosts --device auto --kernel "$kernel"
    step "two-hosts-$kernel-4-queue-pairs" have_peer two_hosts --device auto --kernel "$kernel" \
        --queue-pairs 4
done

printf '\npassed:  %s\nfailed:  %s\nskipped: %s\n' \
    "${passed[*]:-none}" "${failed[*]:-none}" "${skipped[*]:-none}"
((${#failed[@]} == 0))
