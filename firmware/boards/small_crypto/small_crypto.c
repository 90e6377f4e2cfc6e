#include "small_crypto.h"

#include <Sha256.h>
#include <monocypher.h>

#include "openbsd_types.h"
/* Stands behind what it needs. */
#include <sha2.h>

_Static_assert(sizeof(CSha256) <= sizeof(nst_hash_state), "room for the state");

static CSha256 *state_of(nst_hash_state *state) {
    return (CSha256 *)(void *)state;
}

static int init(nst_hash_state *state) {
    Sha256_Init(state_of(state));
    return 0;
}

static int update(nst_hash_state *state, const void *data, size_t bytes) {
    Sha256_Update(state_of(state), data, bytes);
    return 0;
}

static int final(nst_hash_state *state, uint8_t digest[NST_HASH_BYTES]) {
    Sha256_Final(state_of(state), digest);
    return 0;
}

const nst_hash_ops nst_hash_small = {init, update, final};

int nst_verify_small(const uint8_t signature[64], const uint8_t *message, size_t bytes,
                     const uint8_t public_key[NST_PUBLIC_KEY_BYTES]) {
    SHA2_CTX hash;
    uint8_t digest[SHA512_DIGEST_LENGTH];
    uint8_t reduced[32];
    SHA512Init(&hash);
    SHA512Update(&hash, signature, 32);
    SHA512Update(&hash, public_key, NST_PUBLIC_KEY_BYTES);
    SHA512Update(&hash, message, bytes);
    SHA512Final(digest, &hash);
    crypto_eddsa_reduce(reduced, digest);
    return crypto_eddsa_check_equation(signature, public_key, reduced);
}
