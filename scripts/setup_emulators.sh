#!/usr/bin/env bash
# Installs what the emulated devices need: an Arm bare-metal compiler and QEMU for the Cortex-M boards, a
# cross compiler and QEMU's user mode for Arm Linux. `make test` and `make demo-devices` call it; what only
# works on this computer does without.
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

# Prints the Debian packages that are missing, by looking for what each of them brings.
missing_packages() {
    command -v arm-none-eabi-gcc >/dev/null || echo gcc-arm-none-eabi
    [[ -e /usr/include/newlib/stdint.h ]] || echo libnewlib-arm-none-eabi
    command -v qemu-system-arm >/dev/null || echo qemu-system-arm
    command -v qemu-aarch64 >/dev/null || echo qemu-user
    command -v aarch64-linux-gnu-g++ >/dev/null || echo g++-aarch64-linux-gnu
}

main() {
    local missing sudo=()
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
            fail "please install: sudo apt-get install ${missing[*]}"
        fi
        sudo=(sudo)
    fi
    command -v apt-get >/dev/null || fail "no apt-get here; please install the likes of: ${missing[*]}"
    say "installing ${missing[*]}"
    "${sudo[@]}" apt-get update -qq || say "apt-get update failed, going on with the lists that are there"
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

main "$@"
