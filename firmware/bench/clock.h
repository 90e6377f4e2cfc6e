// Time stamps for samples.
#pragma once

#include <chrono>
#include <cstdint>

namespace nestling_bench {

// Nanoseconds of the monotonic clock. Reading it costs some 25 ns, which every sample of every
// contestant contains once.
inline int64_t now_ns() {
    const auto since_boot = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(since_boot).count();
}

// Nanoseconds that `work` takes.
template <typename Work>
int64_t time_ns(Work &&work) {
    const int64_t start = now_ns();
    work();
    return now_ns() - start;
}

}  // namespace nestling_bench
