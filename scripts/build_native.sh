#!/usr/bin/env bash
# Builds the device side for this machine into build/native, where nestling_runtime looks for it.
# Arguments go to CMake's configure step, e.g. -DNESTLING_WERROR=OFF.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH"

readonly BUILD=build/native

# One build at a time: two ninjas in one folder spoil each other's log.
mkdir -p "$BUILD"
exec 9>"$BUILD/.lock"
flock 9

cmake -S firmware -B "$BUILD" -G Ninja --log-level=WARNING \
    -DPython_EXECUTABLE="$PWD/.venv/bin/python" -DCMAKE_BUILD_TYPE=Release -DNESTLING_BUILD_BENCH=ON "$@"
cmake --build "$BUILD" --parallel "${NESTLING_JOBS:-2}"
