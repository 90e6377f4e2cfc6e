#!/usr/bin/env bash
# Fetches libsodium's sources for boards without an operating system: SHA-256 and Ed25519 are
# compiled from them. They are taken from PyNaCl's source distribution on PyPI, checked by hash, and
# left in build/sodium/libsodium.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VERSION=1.5.0
readonly SHA256=8ac7448f09ab85811607bdd21ec2464495ac8b7c66d146bf545b0f08fb9220ba
readonly FOLDER=$PWD/build/sodium
readonly ARCHIVE=$FOLDER/PyNaCl-$VERSION.tar.gz

fail() { printf 'fetch_sodium: error: %s\n' "$*" >&2; exit 1; }

is_right() { [[ -f $ARCHIVE ]] && sha256sum --check --status <<<"$SHA256  $ARCHIVE"; }

main() {
    [[ -e $FOLDER/complete-$VERSION ]] && return
    mkdir -p "$FOLDER"
    # One fetch at a time; a second one finds the work done.
    exec 9>"$FOLDER/.lock"
    flock 9
    [[ -e $FOLDER/complete-$VERSION ]] && return
    if ! is_right; then
        .venv/bin/python -m pip download -qq --disable-pip-version-check --no-deps \
            --no-build-isolation --no-binary :all: --dest "$FOLDER" "pynacl==$VERSION" >/dev/null ||
            fail "pip could not download pynacl $VERSION"
    fi
    is_right || fail "$ARCHIVE is not the file that was expected; remove it and try again"
    rm -rf "$FOLDER/libsodium"
    mkdir -p "$FOLDER/libsodium"
    tar -xzf "$ARCHIVE" -C "$FOLDER/libsodium" --strip-components=5 \
        "PyNaCl-$VERSION/src/libsodium/src/libsodium"
    tar -xzf "$ARCHIVE" -C "$FOLDER/libsodium" --strip-components=3 \
        "PyNaCl-$VERSION/src/libsodium/LICENSE"
    touch "$FOLDER/complete-$VERSION"
}

main "$@"
