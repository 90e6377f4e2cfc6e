// Time as the statistics count it.
#pragma once

#include <chrono>
#include <cstdint>

namespace nestling {

// Nanoseconds of a clock that never jumps.
inline uint64_t now_ns() {
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                     std::chrono::steady_clock::now().time_since_epoch())
                                     .count());
}

}  // namespace nestling
