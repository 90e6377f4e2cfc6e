#!/usr/bin/env bash
# Makes build/targets/vgf, the environment in which programs for Arm's neural GPUs are executed: Arm's
# emulation layers on a software Vulkan, and ExecuTorch 1.4.1, the last wheel whose runtime holds VgfBackend.
# It is apart from .venv because that has a newer ExecuTorch. About two minutes, 1 GB; exporting needs none of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=${NESTLING_TARGETS:-build/targets}/vgf
readonly TORCH=2.13.0
readonly DRIVER=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json # Mesa's Vulkan on the processor

[[ -e $VENV/complete ]] && exit 0

if [[ ! -e $DRIVER ]]; then
    sudo=()
    ((EUID == 0)) || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq || true # stale lists will often do
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends libvulkan1 mesa-vulkan-drivers >/dev/null
fi

"${NESTLING_PYTHON:-.venv/bin/python}" -m venv "$VENV"

install() {
    "$VENV/bin/python" -m pip install -qq --disable-pip-version-check "$@"
}

install "torch==$TORCH+cpu" 2>/dev/null ||
    install "torch==$TORCH" --index-url https://download.pytorch.org/whl/cpu
install executorch==1.4.1 ai_ml_emulation_layer_for_vulkan==0.9.0
touch "$VENV/complete"
