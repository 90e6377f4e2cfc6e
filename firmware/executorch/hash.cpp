#include "hash.h"

#include <sodium/crypto_hash_sha256.h>

#include <algorithm>
#include <cstring>

#include "sha256_x86.h"
#include "status.h"

namespace nestling {
namespace {

// Pages are given back after this many bytes, so that checking a large section needs little memory.
constexpr size_t kWindowBytes = 1 << 20;

// ---- libsodium ----

static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(nst_hash_state));

crypto_hash_sha256_state *sodium(nst_hash_state *state) {
    return reinterpret_cast<crypto_hash_sha256_state *>(state->words);
}

int sodium_start(nst_hash_state *state) {
    return crypto_hash_sha256_init(sodium(state));
}

int sodium_take(nst_hash_state *state, const void *data, size_t bytes) {
    return crypto_hash_sha256_update(sodium(state), static_cast<const unsigned char *>(data),
                                     bytes);
}

int sodium_finish(nst_hash_state *state, uint8_t digest[NST_HASH_BYTES]) {
    return crypto_hash_sha256_final(sodium(state), digest);
}

constexpr nst_hash_ops kSodium = {sodium_start, sodium_take, sodium_finish};

// ---- the processor ----

struct Blocks {
    uint32_t words[8];
    uint64_t bytes;    // taken so far
    uint8_t rest[64];  // bytes % 64 of them are waiting
};
static_assert(sizeof(Blocks) <= sizeof(nst_hash_state));

int x86_start(nst_hash_state *state) {
    constexpr uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    auto *blocks = reinterpret_cast<Blocks *>(state->words);
    std::memcpy(blocks->words, initial, sizeof initial);
    blocks->bytes = 0;
    return 0;
}

int x86_take(nst_hash_state *state, const void *data, size_t bytes) {
    auto *blocks = reinterpret_cast<Blocks *>(state->words);
    const auto *from = static_cast<const uint8_t *>(data);
    const size_t waiting = static_cast<size_t>(blocks->bytes % 64);
    blocks->bytes += bytes;
    if (waiting > 0) {
        const size_t taken = std::min(bytes, 64 - waiting);
        std::memcpy(blocks->rest + waiting, from, taken);
        from += taken;
        bytes -= taken;
        if (waiting + taken < 64) {
            return 0;
        }
        sha256_x86_blocks(blocks->words, blocks->rest, 1);
    }
    sha256_x86_blocks(blocks->words, from, bytes / 64);
    std::memcpy(blocks->rest, from + bytes / 64 * 64, bytes % 64);
    return 0;
}

int x86_finish(nst_hash_state *state, uint8_t digest[NST_HASH_BYTES]) {
    auto *blocks = reinterpret_cast<Blocks *>(state->words);
    const uint64_t bits = blocks->bytes * 8;
    uint8_t padding[72] = {0x80};
    const size_t zeros = (119 - static_cast<size_t>(blocks->bytes % 64)) % 64 + 1;
    for (size_t i = 0; i < 8; ++i) {
        padding[zeros + i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
    }
    x86_take(state, padding, zeros + 8);
    for (size_t i = 0; i < NST_HASH_BYTES; ++i) {
        digest[i] = static_cast<uint8_t>(blocks->words[i / 4] >> (24 - 8 * (i % 4)));
    }
    return 0;
}

constexpr nst_hash_ops kX86 = {x86_start, x86_take, x86_finish};

// ---- giving pages back while hashing ----

// nst_hash_ops carries no context of its own.
thread_local const Mapping *dropping = nullptr;

int take_and_drop(nst_hash_state *state, const void *data, size_t bytes) {
    const auto *at = static_cast<const uint8_t *>(data);
    while (bytes > 0) {
        const size_t window = std::min(bytes, kWindowBytes);
        if (platform_hash()->update(state, at, window) != 0) {
            return -1;
        }
        if (window == kWindowBytes) {
            dropping->drop(at, window);
        }
        at += window;
        bytes -= window;
    }
    return 0;
}

}  // namespace

const nst_hash_ops *platform_hash() {
    static const nst_hash_ops *chosen = sha256_x86_available() ? &kX86 : &kSodium;
    return chosen;
}

int check_section(const nst_bundle &bundle, uint32_t section, const Mapping &mapping,
                  bool keep_pages, nst_error *err) {
    if (int code = mapping.check_alive(nullptr, err); code != NST_OK) {
        return code;
    }
    if (keep_pages) {
        return nst_bundle_check_section(&bundle, section, platform_hash(), err);
    }
    const nst_hash_ops ops = {platform_hash()->init, take_and_drop, platform_hash()->final};
    dropping = &mapping;
    const int code = nst_bundle_check_section(&bundle, section, &ops, err);
    dropping = nullptr;
    return code;
}

}  // namespace nestling
