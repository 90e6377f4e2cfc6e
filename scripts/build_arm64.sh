#!/usr/bin/env bash
# Builds the device side for 64-bit Arm Linux into build/arm64: libnestling, nestlingd, nestling-bench and
# the examples, against the aarch64 wheel of the executorch that is installed in .venv. They run on a
# Raspberry Pi or, here, under qemu-aarch64:
#
#   qemu-aarch64 -cpu cortex-a76 -L /usr/aarch64-linux-gnu build/arm64/bin/nestlingd --help
#
# (Name a processor without SME: QEMU 7.2's emulation of it and XNNPACK's int8 kernels disagree.)
#
# build/arm64/device is all that a board needs: copy it there and run nestling_runtime/bin/nestlingd.
# Downloads once (build/arm64/wheel, build/arm64/sysroot). Arguments go to CMake's configure step.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH"

readonly BUILD=$PWD/build/arm64
readonly WHEEL=$BUILD/wheel
readonly SYSROOT=$BUILD/sysroot
# libnestling takes both in as static libraries.
readonly LIBRARIES=(libsodium-dev zlib1g-dev)

say() { printf 'build_arm64: %s\n' "$*"; }
fail() { printf 'build_arm64: error: %s\n' "$*" >&2; exit 1; }

require_tools() {
    command -v aarch64-linux-gnu-g++ >/dev/null ||
        fail "no cross compiler; please install: sudo apt-get install g++-aarch64-linux-gnu"
}

# The wheel for the other processor, of the same version. Unpacked, never installed: nothing of it runs here.
fetch_wheel() {
    local version
    version=$(python -c 'from importlib.metadata import version; print(version("executorch"))') ||
        fail "executorch is not installed; run scripts/setup.sh"
    [[ -f $WHEEL/complete && $(<"$WHEEL/complete") == "$version" ]] && return
    say "downloading executorch $version for aarch64"
    rm -rf "$WHEEL"
    python -m pip download -qq --disable-pip-version-check --no-deps --only-binary=:all: \
        --platform manylinux_2_28_aarch64 --dest "$WHEEL" "executorch==$version" ||
        fail "PyPI has no aarch64 wheel of executorch $version for this Python, or cannot be reached"
    python -m zipfile -e "$WHEEL"/executorch-*.whl "$WHEEL"
    rm "$WHEEL"/executorch-*.whl
    printf '%s\n' "$version" >"$WHEEL/complete"
}

# Debian's packages for arm64, unpacked into a folder: neither root nor a foreign architecture in this
# system's own package database is needed.
fetch_libraries() {
    [[ -f $SYSROOT/complete ]] && return
    local apt=$BUILD/apt
    local options=(
        -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User="$(id -un)"
        -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status=/dev/null
        -o Dir::Cache="$apt/cache"
    )
    say "downloading ${LIBRARIES[*]} for arm64"
    rm -rf "$apt" "$SYSROOT"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/packages" "$SYSROOT"
    if ! command -v apt-get >/dev/null || ! apt-get "${options[@]}" update -qq ||
        ! (cd "$apt/packages" && apt-get "${options[@]}" download -qq "${LIBRARIES[@]}"); then
        fail "cannot fetch the libraries; please install: sudo dpkg --add-architecture arm64," \
            "sudo apt-get update, sudo apt-get install ${LIBRARIES[*]/%/:arm64} (on Ubuntu add its" \
            "package source for ports first), then run this with -DNESTLING_SYSROOT=/"
    fi
    local package
    for package in "$apt"/packages/*.deb; do
        dpkg-deb -x "$package" "$SYSROOT"
    done
    rm -rf "$apt"
    touch "$SYSROOT/complete"
}

# Whether the caller brings the libraries.
has_own_sysroot() {
    [[ " $* " == *" -DNESTLING_SYSROOT="* ]]
}

# The folder for a board: laid out like site-packages, because libnestling looks for ExecuTorch there.
fill_device_folder() {
    local name
    cmake --install "$BUILD" --component nestling --prefix "$BUILD/device" --strip >/dev/null
    mkdir -p "$BUILD/device/executorch/lib"
    for name in "" _backend_xnnpack _kernels_optimized _kernels_quantized _threadpool; do
        cp -u "$WHEEL/executorch/lib/libexecutorch$name.so" "$BUILD/device/executorch/lib"
    done
}

main() {
    require_tools
    # One build at a time: two ninjas in one folder spoil each other's log.
    mkdir -p "$BUILD"
    exec 9>"$BUILD/.lock"
    flock 9
    fetch_wheel
    has_own_sysroot "$@" || fetch_libraries
    cmake -S firmware -B "$BUILD" -G Ninja --log-level=WARNING \
        -DCMAKE_TOOLCHAIN_FILE="$PWD/firmware/cmake/aarch64-linux-gnu.cmake" \
        -DNESTLING_SYSROOT="$SYSROOT" -DEXECUTORCH_WHEEL_DIR="$WHEEL/executorch" \
        -DPython_EXECUTABLE="$PWD/.venv/bin/python" -DCMAKE_BUILD_TYPE=Release \
        -DNESTLING_PRECOMPILE=ON "$@"
    cmake --build "$BUILD" --parallel "${NESTLING_JOBS:-2}"
    fill_device_folder
}

main "$@"
