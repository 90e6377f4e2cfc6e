#!/usr/bin/env bash
# Builds the C core and its tests with AddressSanitizer and UBSan, and runs them. Arguments go to ctest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH"

readonly BUILD=build/sanitize

# One build at a time: two ninjas in one folder spoil each other's log.
mkdir -p "$BUILD"
exec 9>"$BUILD/.lock"
flock 9

cmake -S firmware -B "$BUILD" -G Ninja --log-level=WARNING \
    -DPython_EXECUTABLE="$PWD/.venv/bin/python" -DCMAKE_BUILD_TYPE=None \
    -DCMAKE_C_FLAGS=-O1 -DCMAKE_CXX_FLAGS=-O1 \
    -DNESTLING_CORE_ONLY=ON -DNESTLING_BUILD_TESTS=ON -DNESTLING_SANITIZE=ON
cmake --build "$BUILD" --parallel "${NESTLING_JOBS:-2}"
exec 9>&-
ctest --test-dir "$BUILD" --output-on-failure --no-tests=error "$@"
