#include "hash_sodium.h"

#include <sodium.h>
#include <string.h>

/* Neither function below needs sodium_init: it seeds random numbers and picks vector code, and both
 * of these work without. */

_Static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(nst_hash_state), "room for the state");

static crypto_hash_sha256_state *state_of(nst_hash_state *state) {
    return (crypto_hash_sha256_state *)(void *)state;
}

static int init(nst_hash_state *state) {
    return crypto_hash_sha256_init(state_of(state));
}

static int update(nst_hash_state *state, const void *data, size_t bytes) {
    return crypto_hash_sha256_update(state_of(state), data, bytes);
}

static int final(nst_hash_state *state, uint8_t digest[NST_HASH_BYTES]) {
    return crypto_hash_sha256_final(state_of(state), digest);
}

const nst_hash_ops nst_hash_sodium = {init, update, final};

int nst_verify_sodium(const uint8_t signature[64], const uint8_t *message, size_t bytes,
                      const uint8_t public_key[NST_PUBLIC_KEY_BYTES]) {
    return crypto_sign_verify_detached(signature, message, bytes, public_key);
}
