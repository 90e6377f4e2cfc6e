#!/usr/bin/env bash
# Makes the developer environment: system packages, .venv, Python packages, nestling itself (editable).
# Running it again does nothing unless pyproject.toml or this script changed.
#
#   NESTLING_PYTHON=python3.12 scripts/setup.sh    use this interpreter instead of the first that fits
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv
readonly STAMP=$VENV/.nestling-setup
readonly TORCH=2.13.0
readonly PYTHONS=(python3.11 python3.12 python3.13 python3)

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

# What the environment depends on; the stamp holds its hash.
fingerprint() {
    cat pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1
}

up_to_date() {
    [[ -f $STAMP && -x $VENV/bin/python && $(<"$STAMP") == "$(fingerprint)" ]]
}

fitting_python() {
    local candidate
    for candidate in ${NESTLING_PYTHON:-"${PYTHONS[@]}"}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Prints the Debian packages that are missing, by looking for what each of them brings.
missing_packages() {
    command -v gcc >/dev/null || echo gcc
    command -v g++ >/dev/null || echo g++
    [[ -e /usr/include/sodium.h || -e /usr/local/include/sodium.h ]] || echo libsodium-dev
    [[ -e /usr/include/zlib.h || -e /usr/local/include/zlib.h ]] || echo zlib1g-dev
    if ! fitting_python >/dev/null; then
        echo python3 python3-venv
    elif ! "$(fitting_python)" -c 'import ensurepip' 2>/dev/null; then
        "$(fitting_python)" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
    fi
}

install_system_packages() {
    local missing sudo=()
    mapfile -t missing < <(missing_packages | tr ' ' '\n')
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
            fail "please install: sudo apt-get install ${missing[*]}"
        fi
        sudo=(sudo)
    fi
    command -v apt-get >/dev/null || fail "no apt-get here; please install the likes of: ${missing[*]}"
    say "installing ${missing[*]}"
    # Stale lists will often do; when they do not, the installation itself says so.
    "${sudo[@]}" apt-get update -qq || say "apt-get update failed, going on with the lists that are there"
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

make_venv() {
    local python
    [[ -x $VENV/bin/python ]] && return
    python=$(fitting_python) || fail "no Python from 3.11 to 3.13 found; set NESTLING_PYTHON to one"
    say "making $VENV with $("$python" --version)"
    "$python" -m venv "$VENV"
}

# Python compiles what is imported, when it is; compiling all of it ahead takes a third of the set-up.
pip_install() {
    "$VENV/bin/python" -m pip install -qq --no-compile --disable-pip-version-check "$@"
}

# First and alone: asked for by another package, torch brings several gigabytes of CUDA packages.
install_torch() {
    "$VENV/bin/python" -c "import torch, sys; sys.exit(torch.__version__.split('+')[0] != '$TORCH')" \
        2>/dev/null && return
    say "installing torch $TORCH for the CPU"
    pip_install "torch==$TORCH+cpu" 2>/dev/null ||
        pip_install "torch==$TORCH" --index-url https://download.pytorch.org/whl/cpu 2>/dev/null ||
        pip_install "torch==$TORCH"
}

# Without build isolation: the library must be built against the executorch that is installed here.
install_nestling() {
    say "installing nestling and its dependencies"
    pip_install "cmake>=3.28" ninja "scikit-build-core>=0.12" zcbor==0.9.1
    pip_install --no-build-isolation --editable ".[dev,bench]"
}

main() {
    up_to_date && return
    install_system_packages
    make_venv
    install_torch
    install_nestling
    fingerprint >"$STAMP"
    say "ready: $VENV/bin/nestling"
}

main "$@"
