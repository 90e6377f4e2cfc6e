/* The firmware's SHA-256 and Ed25519 against libsodium's. */
#include "small_crypto.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 300, KEYS = 8 };

static int failures;

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            failures++;                                                               \
        }                                                                             \
    } while (0)

/* Bytes that are the same in every run. */
static void fill(uint8_t *out, size_t bytes, uint8_t seed) {
    uint8_t key[randombytes_SEEDBYTES] = {seed};
    randombytes_buf_deterministic(out, bytes, key);
}

static void hashes_are_equal(void) {
    uint8_t message[MOST_BYTES];
    fill(message, sizeof message, 1);
    for (size_t bytes = 0; bytes <= sizeof message; bytes++) {
        uint8_t whole[NST_HASH_BYTES];
        uint8_t pieces[NST_HASH_BYTES];
        nst_hash_state state;
        size_t first = bytes * 3 / 7;
        crypto_hash_sha256(whole, message, bytes);
        CHECK(nst_hash_small.init(&state) == 0);
        CHECK(nst_hash_small.update(&state, message, first) == 0);
        CHECK(nst_hash_small.update(&state, message + first, bytes - first) == 0);
        CHECK(nst_hash_small.final(&state, pieces) == 0);
        CHECK(memcmp(whole, pieces, sizeof whole) == 0);
    }
}

/* Add the group's order to the second half of a signature: the same number modulo the order. */
static void add_order(uint8_t signature[64]) {
    static const uint8_t order[32] = {0xED, 0xD3, 0xF5, 0x5C, 0x1A, 0x63, 0x12, 0x58,
                                      0xD6, 0x9C, 0xF7, 0xA2, 0xDE, 0xF9, 0xDE, 0x14,
                                      0,    0,    0,    0,    0,    0,    0,    0,
                                      0,    0,    0,    0,    0,    0,    0,    0x10};
    unsigned carry = 0;
    for (size_t i = 0; i < sizeof order; i++) {
        carry += (unsigned)signature[32 + i] + order[i];
        signature[32 + i] = (uint8_t)carry;
        carry >>= 8;
    }
}

static void signatures_are_told_from_forgeries(void) {
    uint8_t message[MOST_BYTES];
    uint8_t seed[crypto_sign_SEEDBYTES];
    uint8_t key[crypto_sign_PUBLICKEYBYTES];
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
    uint8_t signature[crypto_sign_BYTES];
    fill(message, sizeof message, 2);
    for (uint8_t i = 0; i < KEYS; i++) {
        size_t bytes = (size_t)i * 40;
        fill(seed, sizeof seed, i);
        crypto_sign_seed_keypair(key, secret, seed);
        crypto_sign_detached(signature, NULL, message, bytes, secret);
        CHECK(nst_verify_small(signature, message, bytes, key) == 0);
        for (size_t bit = 0; bit < 8 * sizeof signature; bit += 37) {
            signature[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            CHECK(nst_verify_small(signature, message, bytes, key) != 0);
            signature[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
        for (size_t bit = 0; bit < 8 * sizeof key; bit += 37) {
            key[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            CHECK(nst_verify_small(signature, message, bytes, key) != 0);
            key[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
        message[0] ^= 1;
        CHECK(nst_verify_small(signature, message, bytes, key) == (bytes == 0 ? 0 : -1));
        message[0] ^= 1;
        CHECK(nst_verify_small(signature, message, bytes + 1, key) != 0);
        add_order(signature);
        CHECK(nst_verify_small(signature, message, bytes, key) != 0);
    }
}

/* RFC 8032, 7.1, TEST 3. */
static void published_signature_is_right(void) {
    static const uint8_t key[32] = {0xFC, 0x51, 0xCD, 0x8E, 0x62, 0x18, 0xA1, 0xA3,
                                    0x8D, 0xA4, 0x7E, 0xD0, 0x02, 0x30, 0xF0, 0x58,
                                    0x08, 0x16, 0xED, 0x13, 0xBA, 0x33, 0x03, 0xAC,
                                    0x5D, 0xEB, 0x91, 0x15, 0x48, 0x90, 0x80, 0x25};
    static const uint8_t message[2] = {0xAF, 0x82};
    static const uint8_t signature[64] = {
        0x62, 0x91, 0xD6, 0x57, 0xDE, 0xEC, 0x24, 0x02, 0x48, 0x27, 0xE6, 0x9C, 0x3A,
        0xBE, 0x01, 0xA3, 0x0C, 0xE5, 0x48, 0xA2, 0x84, 0x74, 0x3A, 0x44, 0x5E, 0x36,
        0x80, 0xD7, 0xDB, 0x5A, 0xC3, 0xAC, 0x18, 0xFF, 0x9B, 0x53, 0x8D, 0x16, 0xF2,
        0x90, 0xAE, 0x67, 0xF7, 0x60, 0x98, 0x4D, 0xC6, 0x59, 0x4A, 0x7C, 0x15, 0xE9,
        0x71, 0x6E, 0xD2, 0x8D, 0xC0, 0x27, 0xBE, 0xCE, 0xEA, 0x1E, 0xC4, 0x0A};
    CHECK(nst_verify_small(signature, message, sizeof message, key) == 0);
}

int main(void) {
    if (sodium_init() < 0) {
        return EXIT_FAILURE;
    }
    hashes_are_equal();
    signatures_are_told_from_forgeries();
    published_signature_is_right();
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
