// Public keys as `nestling keygen` writes them.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "core/signature.h"

namespace nestling::linux_board {

// An Ed25519 key from a PEM file (SubjectPublicKeyInfo), or a file of its 32 bytes alone.
// std::runtime_error with one sentence.
std::array<uint8_t, NST_PUBLIC_KEY_BYTES> read_public_key(const std::string &path);

}  // namespace nestling::linux_board
