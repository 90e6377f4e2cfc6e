// What routers said, kept for replays offline.
#pragma once

#include <cstdint>
#include <vector>

#include "core/expert_eviction.h"
#include "nestling_experts.h"

namespace nestling {

// Calls of layers in the order in which they came, until its room is full. Allocates when it starts,
// never when it notes. Under the store's lock.
class ExpertRecorder {
  public:
    // Forgets everything, and has room for `calls` of up to `experts` experts.
    void start(uint32_t calls, uint32_t experts);

    void note(const nst_expert_visit &visit, uint32_t tokens);

    uint32_t count() const { return static_cast<uint32_t>(calls_.size()); }
    uint64_t dropped() const { return dropped_; }
    // `index` is below `count`; both arrays have room for `experts`.
    void read(uint32_t index, nst_expert_call *out, float *probabilities, uint32_t *chosen) const;
    uint32_t experts() const { return experts_; }

  private:
    uint32_t room_ = 0;
    uint32_t experts_ = 0;
    uint64_t dropped_ = 0;
    std::vector<nst_expert_call> calls_;
    std::vector<float> probabilities_;  // [room][experts]
    std::vector<uint32_t> chosen_;      // the same; a call's are at the front of its row
};

}  // namespace nestling
