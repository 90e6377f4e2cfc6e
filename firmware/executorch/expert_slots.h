// Slots of memory for slices of experts, under core/expert_cache.
#pragma once

#include <cstdint>
#include <memory>

#include "core/expert_cache.h"
#include "core/expert_index.h"
#include "system_memory.h"

namespace nestling {

// A slice by its place in the model.
struct ExpertKey {
    uint32_t layer;
    uint32_t expert;
    uint32_t slice;
};

// Not thread-safe.
class ExpertSlots {
  public:
    ExpertSlots() = default;
    ExpertSlots(ExpertSlots &&) = default;
    ExpertSlots &operator=(ExpertSlots &&) = default;

    // Begins with `slots` empty ones. `policy`: an nst_expert_policy. NST_E_LIMIT, NST_E_NO_MEMORY.
    int open(const nst_expert_index &index, uint32_t policy, uint32_t slots, nst_error *err);

    nst_expert_cache &cache() { return cache_; }
    const nst_expert_cache &cache() const { return cache_; }
    const nst_expert_shape &shape() const { return cache_.shape; }
    uint32_t slot_bytes() const { return slot_bytes_; }

    uint32_t key_of(const ExpertKey &place) const {
        return nst_expert_key(&cache_.shape, place.layer, place.expert, place.slice);
    }
    ExpertKey place_of(uint32_t key) const;

    // As nst_expert_cache_claim.
    int take(uint32_t key, nst_expert_purpose purpose, uint32_t *slot);
    // The bytes of a slot are there, or will not come.
    void ready(uint32_t slot);
    void drop(uint32_t slot);
    // NST_NONE has none.
    uint8_t *bytes(uint32_t slot) const {
        return slot == NST_NONE ? nullptr
                                : memory_->data() + static_cast<size_t>(slot) * slot_bytes_;
    }

    // Slots that hold something, and most of them so far.
    uint32_t occupied() const { return occupied_; }
    uint32_t peak() const { return peak_; }
    // Counts from zero again; what is resident stays.
    void reset_counts();

  private:
    std::unique_ptr<SharedArena> memory_;
    std::unique_ptr<uint64_t[]> cache_memory_;
    nst_expert_cache cache_{};
    uint32_t slot_bytes_ = 0;
    uint32_t occupied_ = 0;
    uint32_t peak_ = 0;
};

}  // namespace nestling
