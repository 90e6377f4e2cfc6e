/* SHA-256 and Ed25519 in as few bytes of code as libraries offer, for firmware: half the speed of
 * libsodium's, a third of its size. */
#ifndef NESTLING_BOARDS_SMALL_CRYPTO_SMALL_CRYPTO_H
#define NESTLING_BOARDS_SMALL_CRYPTO_SMALL_CRYPTO_H

#include "core/bundle.h"
#include "core/signature.h"

/* SHA-256 of the LZMA SDK. */
extern const nst_hash_ops nst_hash_small;

/* An `nst_verify_fn`: Ed25519 of Monocypher (RFC 8032, the check with the cofactor) with OpenBSD's
 * SHA-512. */
int nst_verify_small(const uint8_t signature[64], const uint8_t *message, size_t bytes,
                     const uint8_t public_key[NST_PUBLIC_KEY_BYTES]);

#endif
