// The SHA instructions of x86 processors.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nestling {

// Whether this processor has them; false on every other architecture.
bool sha256_x86_available();

// Takes `blocks` blocks of 64 bytes into the state (eight words in the processor's byte order).
void sha256_x86_blocks(uint32_t state[8], const uint8_t *data, size_t blocks);

}  // namespace nestling
