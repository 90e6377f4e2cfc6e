#!/usr/bin/env bash
# Fuzzes the bundle reader under AddressSanitizer and UBSan: scripts/fuzz.sh [SECONDS], 600 by default.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH"

PYTHONPATH=toolchain:runtime_py:tests exec python -m attacks.fuzzing --seconds "${1:-600}"
