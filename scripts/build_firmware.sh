#!/usr/bin/env bash
# Builds the programs of the bare-metal boards, each into build/firmware/BOARD/bin. Arguments:
# boards, by the names of their folders in firmware/boards; without any, all of them. Options
# (-D...) go to CMake's configure step.
#
#   scripts/build_firmware.sh mps3_an547
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH"

# The processor of each board.
declare -Ar CPUS=([mps3_an547]=cortex-m55 [mps2_an500]=cortex-m7 [mps2_an386]=cortex-m4
    [mps2_an505]=cortex-m33)

fail() { printf 'build_firmware: error: %s\n' "$*" >&2; exit 1; }

build() {
    local board=$1
    shift
    local folder=$PWD/build/firmware/$board
    [[ -v CPUS[$board] ]] || fail "no board $board; there are: ${!CPUS[*]}"
    # One build at a time: two ninjas in one folder spoil each other's log.
    mkdir -p "$folder"
    exec 9>"$folder/.lock"
    flock 9
    cmake -S "firmware/boards/$board" -B "$folder" -G Ninja \
        --log-level=WARNING --no-warn-unused-cli \
        -DCMAKE_TOOLCHAIN_FILE="$PWD/firmware/cmake/arm-none-eabi.cmake" \
        -DNESTLING_CPU="${CPUS[$board]}" -DCMAKE_BUILD_TYPE=Release \
        -DPython_EXECUTABLE="$PWD/.venv/bin/python" "$@"
    cmake --build "$folder" --parallel "${NESTLING_JOBS:-2}" -- --quiet
    exec 9>&-
}

main() {
    local boards=() options=() argument
    for argument in "$@"; do
        if [[ $argument == -* ]]; then options+=("$argument"); else boards+=("$argument"); fi
    done
    command -v arm-none-eabi-gcc >/dev/null ||
        fail "no cross compiler; please install: sudo apt-get install gcc-arm-none-eabi" \
            "libnewlib-arm-none-eabi"
    if ((${#boards[@]} == 0)); then
        for argument in "${!CPUS[@]}"; do
            [[ -f firmware/boards/$argument/CMakeLists.txt ]] && boards+=("$argument")
        done
    fi
    for argument in "${boards[@]}"; do
        build "$argument" "${options[@]}"
    done
}

main "$@"
