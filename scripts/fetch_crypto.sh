#!/usr/bin/env bash
# Fetches the sources of the small cryptography for boards without an operating system into
# build/crypto: Ed25519 of Monocypher, SHA-512 of OpenBSD, SHA-256 of the LZMA SDK. Each is taken
# out of a source distribution on PyPI, which is checked by hash.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly FOLDER=$PWD/build/crypto
readonly COMPLETE=$FOLDER/complete-1

fail() { printf 'fetch_crypto: error: %s\n' "$*" >&2; exit 1; }

is_right() { [[ -f $1 ]] && sha256sum --check --status <<<"$2  $1"; }

# take PACKAGE VERSION SHA256 NAME FILE...: the files, which lie in one folder, into build/crypto/NAME.
take() {
    local archive=$FOLDER/$1-$2.tar.gz root=$1-$2 package=$1 version=$2 hash=$3 name=$4
    shift 4
    if ! is_right "$archive" "$hash"; then
        .venv/bin/python -m pip download -qq --disable-pip-version-check --no-deps \
            --no-build-isolation --no-binary :all: --dest "$FOLDER" "$package==$version" >/dev/null ||
            fail "pip could not download $package $version"
    fi
    is_right "$archive" "$hash" ||
        fail "$archive is not the file that was expected; remove it and try again"
    rm -rf "${FOLDER:?}/$name"
    mkdir -p "$FOLDER/$name"
    tar -xzf "$archive" -C "$FOLDER/$name" --transform 's,.*/,,' "${@/#/$root/}"
}

main() {
    [[ -e $COMPLETE ]] && return
    mkdir -p "$FOLDER"
    # One fetch at a time; a second one finds the work done.
    exec 9>"$FOLDER/.lock"
    flock 9
    [[ -e $COMPLETE ]] && return
    take pymonocypher 4.0.3.4 5e56e3d3eb770a53e0b9f6274146663c11a11f3d0de5cd48e3be0428d1b07a4a \
        monocypher monocypher.{c,h}
    take bcrypt 3.2.2 433c410c2177057705da2a9f2cd01dd157493b2a7ac14c8593a16b3dab6b6bfb \
        openbsd src/_csrc/sha2.{c,h} src/_csrc/pycabcrypt.h
    take pylzma 0.6.1 ab1cdc5151479c0674044867e8ece75d253155271e0a9702f7cb076ba690f29d \
        lzma src/sdk/C/{Sha256.c,Sha256.h,Sha256Opt.c,7zTypes.h,7zWindows.h,Compiler.h,CpuArch.c} \
        src/sdk/C/{CpuArch.h,Precomp.h,RotateDefs.h}
    touch "$COMPLETE"
}

main "$@"
