// Where the bytes of experts come from, at the speed that it has or that is asked for.
#pragma once

#include <cstdint>

#include "core/expert_index.h"
#include "mapping.h"

namespace nestling {

// Reads slices of experts.
class ExpertSource {
  public:
    // `section_offsets`: of "experts.0" and "experts.1" in the bundle.
    void open(const Mapping &mapping, const uint64_t section_offsets[NST_MAX_EXPERT_SLICES]);

    // A slower storage than there is; 0: none. See nst_expert_options.
    void emulate(uint64_t bytes_per_s, uint64_t latency_us);

    // Reads a slice and compares its checksum. NST_E_IO, NST_E_HASH; the message does not say which
    // expert it is. Any number of threads.
    int read(const nst_expert_slice &slice, uint32_t number, uint8_t *to, nst_error *err) const;

    // Until when an emulated storage takes for `bytes` bytes that were asked for at `asked_ns`, one
    // read after the other; 0: it has no speed of its own. One thread at a time.
    uint64_t done_ns(uint64_t asked_ns, uint64_t bytes);

  private:
    const Mapping *mapping_ = nullptr;
    uint64_t offsets_[NST_MAX_EXPERT_SLICES] = {};
    uint64_t bytes_per_s_ = 0;
    uint64_t latency_us_ = 0;
    uint64_t busy_until_ns_ = 0;
};

}  // namespace nestling
