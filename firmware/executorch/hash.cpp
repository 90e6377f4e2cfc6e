#include "hash.h"

#include <sodium/crypto_hash_sha256.h>

#include <algorithm>
#include <cstring>

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
    return &kSodium;
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
