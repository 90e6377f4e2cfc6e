#!/usr/bin/env bash
# Fuzzes what parses foreign bytes, under AddressSanitizer and UBSan: scripts/fuzz.sh [SECONDS], 600 by default,
# shared between the bundle reader, the protocol server, and the index and kernel of experts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH" PYTHONPATH=toolchain:runtime_py:tests

readonly SHARE=$((${1:-600} / 3))
python -m attacks.fuzzing --seconds "$SHARE"
python -m attacks.fuzzing_experts --seconds "$SHARE"
exec python -m attacks.fuzzing_smp --seconds "$SHARE"
