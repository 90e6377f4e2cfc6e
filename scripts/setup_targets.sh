#!/usr/bin/env bash
# Installs into .venv the compilers and simulators that are extras of the distribution, and the environment
# in which programs for Arm's neural GPUs are executed. Without one of them its target says what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv
readonly EXTRAS=ethos-u,onnx,openvino,qnn,vgf

"$VENV/bin/nestling" targets --json | "$VENV/bin/python" -c '
import json, sys
targets = json.load(sys.stdin)
sys.exit(any(need["found"] is None for target in targets for need in target["needs"]))' && exit 0
printf 'installing the compilers of targets\n'
"$VENV/bin/python" -m pip install -qq --disable-pip-version-check --no-build-isolation \
    --editable ".[$EXTRAS]"
scripts/setup_vgf.sh
