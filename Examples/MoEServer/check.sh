#!/usr/bin/env bash
# Builds the example and checks it: the model and the ranks in Swift's tests, the server over HTTP.
#
#   check.sh                       all of it
#   SCREENSHOT=page.png check.sh   and a picture of the page
set -euo pipefail
cd "$(dirname "$0")"

SWIFT="${SWIFT:-swift}"
SCRATCH="${SCRATCH:-../../.build-server}"
# Optimized, like what is served: one build for both.
build=(-c release --scratch-path "$SCRATCH")

../../scripts/setup.sh build server
"$SWIFT" build "${build[@]}" --build-tests
"$SWIFT" build "${build[@]}" --product moe-server
"$SWIFT" test "${build[@]}" --skip-build
MOE_SERVER="$(cd "$SCRATCH" && pwd)/release/moe-server" PYTHONDONTWRITEBYTECODE=1 \
    python3 Tests/Server/check.py "$@"
