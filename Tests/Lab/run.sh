#!/usr/bin/env bash
# Builds what runs inside the lab's virtual machines, and runs the lab (lab.py).
#
# The executables of `make test`, so that nothing is built for it alone: the machines get copies of the
# Swift libraries that they load.
set -euo pipefail
cd "$(dirname "$0")/../.."

swift="${SWIFT:-swift}"
# Where it cannot install what is missing, lab.py says what that is.
scripts/setup.sh rdma-lab || true
status=0
python3 -B Tests/Lab/lab.py || status=$?
case "$status" in
    0) ;;
    75) exit 0 ;; # skipped
    *) exit "$status" ;;
esac

begin=$SECONDS
products=(mori-lab bench-dispatch-combine mori-ep)
for product in "${products[@]}"; do
    "$swift" build --product "$product"
done
printf 'test-rdma: built in %d s\n' "$((SECONDS - begin))"

programs=()
for product in "${products[@]}"; do programs+=(".build/debug/$product"); done
python3 -B Tests/Lab/lab.py "${programs[@]}"
