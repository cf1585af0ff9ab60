#!/usr/bin/env bash
# Runs what `make test-emulated` is: the primitives, the runtime on the stand-in of HIP, whole rounds
# of every kernel type, the mutants, and some suites of the host device's, all on the emulated device.
# Without TINYGRAD nothing can be executed: then it is the runtime alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

swift="${SWIFT:-swift}"
export MORI_EP_DEVICE=emulated

if [[ -z "${TINYGRAD:-}" ]]; then
    python3 Tests/Emulator/Translate/semantics.py >&2
    echo "emulator: without it the kernels are not executed; the runtime around them is tested" >&2
    rm -f .build/kernels/libmoriep_emulated.translation.so
    MORI_BOOTSTRAP_TIMEOUT=2 exec "$swift" test --filter MoriEmulatedTests "$@"
fi

"$swift" build --build-tests
run() { "$swift" test --skip-build --filter "$1" "${@:2}"; }
run 'PrimitiveTests|PrimitiveNumberTests' "$@"
# A rank that fails while a world is made is awaited by the others until this deadline.
MORI_BOOTSTRAP_TIMEOUT=2 run MoriEmulatedTests "$@"
# The host device's own tests of what they have in common.
run '/(QuantizedDispatchTests|ReceiveTests|GraphTests|OverflowTests)/|sumsAreThoseOfQuantized' "$@"
run 'TraceTests/(everyWaitEndsByASignal|halvesAreSeen|replaysOfAGraph|whatIsEnqueuedAfter)' "$@"
