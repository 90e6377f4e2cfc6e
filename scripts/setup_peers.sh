#!/usr/bin/env bash
# Makes build/peers/litert, the environment in which `nestling bench` converts models to LiteRT and runs
# them. It is apart from .venv because the converter brings jax and other large packages that nothing
# else here needs. Without it the benchmark leaves LiteRT out and says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=build/peers/litert
readonly TORCH=2.13.0 # the one of .venv: exported programs are handed over as files

[[ -e $VENV/complete ]] && exit 0
"${NESTLING_PYTHON:-.venv/bin/python}" -m venv "$VENV"

install() {
    "$VENV/bin/python" -m pip install -qq --disable-pip-version-check "$@"
}

install "torch==$TORCH+cpu" 2>/dev/null ||
    install "torch==$TORCH" --index-url https://download.pytorch.org/whl/cpu
install litert-torch==0.10.0 torchao==0.18.0 "onnxruntime>=1.20"
touch "$VENV/complete"
