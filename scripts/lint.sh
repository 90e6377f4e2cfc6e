#!/usr/bin/env bash
# Checks format, style and types of everything that git knows or would take; --fix formats instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH"

mapfile -t c_files < <(
    git ls-files --cached --others --exclude-standard -- '*.c' '*.h' '*.cpp' '*.hpp' |
        while read -r file; do [[ -e $file ]] && echo "$file"; done
)

if [[ ${1:-} == --fix ]]; then
    ruff check --fix-only --quiet .
    ruff format --quiet .
    ((${#c_files[@]})) && clang-format -i "${c_files[@]}"
    exit
fi

ruff format --check .
ruff check .
((${#c_files[@]})) && clang-format --dry-run -Werror "${c_files[@]}"
mypy
