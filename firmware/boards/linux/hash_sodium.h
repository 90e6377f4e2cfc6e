/* SHA-256 and Ed25519 on Linux, from libsodium. */
#ifndef NESTLING_BOARDS_LINUX_HASH_SODIUM_H
#define NESTLING_BOARDS_LINUX_HASH_SODIUM_H

#include "bundle.h"
#include "signature.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const nst_hash_ops nst_hash_sodium;

/* An `nst_verify_fn`. */
int nst_verify_sodium(const uint8_t signature[64], const uint8_t *message, size_t bytes,
                      const uint8_t public_key[NST_PUBLIC_KEY_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
