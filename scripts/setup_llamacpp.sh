#!/usr/bin/env bash
# Makes build/targets/llamacpp, the environment in which `nestling demo-lm` times llama.cpp. It is compiled
# from the source distribution of llama-cpp-python. Without it the demo leaves llama.cpp out and says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=build/targets/llamacpp

[[ -e $VENV/complete ]] && exit 0
"${NESTLING_PYTHON:-.venv/bin/python}" -m venv "$VENV"

install() {
    "$VENV/bin/python" -m pip install -qq --disable-pip-version-check "$@"
}

install "cmake>=3.31" gguf==0.19.0 ninja "numpy>=2"
CMAKE_ARGS=-DLLAVA_BUILD=OFF CMAKE_BUILD_PARALLEL_LEVEL=${NESTLING_JOBS:-2} install llama-cpp-python==0.3.36
touch "$VENV/complete"
