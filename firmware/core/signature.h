/* The signature of a bundle: COSE_Sign1 (RFC 9052) in one fixed form, Ed25519 over the manifest's
 * hash. */
#ifndef NESTLING_CORE_SIGNATURE_H
#define NESTLING_CORE_SIGNATURE_H

#include "bundle.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define NST_SIGNATURE_BYTES 84u
#define NST_KEY_ID_BYTES 8u      /* the first bytes of SHA-256(public key) */
#define NST_PUBLIC_KEY_BYTES 32u /* Ed25519, raw */
#define NST_SIGNED_BYTES 51u     /* what Ed25519 signs: COSE's Sig_structure */

/* Ed25519 of the platform: 0 when `signature` (64 bytes) of `message` is by `public_key`. */
typedef int (*nst_verify_fn)(const uint8_t signature[64], const uint8_t *message, size_t bytes,
                             const uint8_t public_key[NST_PUBLIC_KEY_BYTES]);

/* Whether `bytes` bytes at `data` have the fixed form; says nothing about who signed. */
bool nst_signature_is_well_formed(const uint8_t *data, size_t bytes);

/* The Sig_structure for a manifest hash. */
void nst_signature_message(const uint8_t manifest_sha256[NST_HASH_BYTES],
                           uint8_t out[NST_SIGNED_BYTES]);

/* Check that an opened bundle was signed with one key. NST_OK; NST_E_SIGNATURE: not signed, by
 * another key (its id differs), or forged; NST_E_ARGUMENT. `hash` computes the key's id. */
int nst_bundle_verify(const nst_bundle *bundle, const uint8_t public_key[NST_PUBLIC_KEY_BYTES],
                      const nst_hash_ops *hash, nst_verify_fn verify, nst_error *err);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
