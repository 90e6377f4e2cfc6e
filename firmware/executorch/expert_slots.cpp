#include "expert_slots.h"

#include <algorithm>

#include "expert_catalog.h"
#include "status.h"

namespace nestling {

int ExpertSlots::open(const nst_expert_index &index, uint32_t policy, uint32_t slots,
                      nst_error *err) {
    const Where where{.section = kExpertIndexSection, .stage = {}};
    const nst_expert_shape shape{index.layers, index.most_experts, index.slices, slots};
    const nst_expert_eviction *eviction = nst_expert_eviction_at(policy);
    const uint64_t cache_bytes = nst_expert_cache_bytes(&shape, eviction);
    if (cache_bytes == 0) {
        return failf(err, NST_E_LIMIT, where, NST_EXPERT_MAX_KEYS, 0,
                     "too many experts to keep account of");
    }
    cache_memory_ = std::make_unique<uint64_t[]>(cache_bytes / sizeof(uint64_t) + 1);
    memory_ = std::make_unique<SharedArena>();
    slot_bytes_ = index.slot_bytes;
    const uint64_t bytes = uint64_t{slots} * slot_bytes_;
    if (!memory_->reserve(static_cast<size_t>(bytes))) {
        return failf(err, NST_E_NO_MEMORY, where, bytes, 0, "no address space for experts");
    }
    return nst_expert_cache_init(&cache_, &shape, eviction, cache_memory_.get(), cache_bytes);
}

ExpertKey ExpertSlots::place_of(uint32_t key) const {
    const uint32_t expert = key / cache_.shape.slices;
    return {expert / cache_.shape.experts, expert % cache_.shape.experts,
            key % cache_.shape.slices};
}

int ExpertSlots::take(uint32_t key, nst_expert_purpose purpose, uint32_t *slot) {
    const uint64_t evictions = cache_.counts.evictions;
    const int code = nst_expert_cache_claim(&cache_, key, purpose, slot);
    occupied_ += code == NST_OK && cache_.counts.evictions == evictions ? 1 : 0;
    return code;
}

void ExpertSlots::ready(uint32_t slot) {
    nst_expert_cache_ready(&cache_, slot);
    peak_ = std::max(peak_, occupied_);
}

void ExpertSlots::drop(uint32_t slot) {
    nst_expert_cache_drop(&cache_, slot);
    --occupied_;
}

void ExpertSlots::reset_counts() {
    nst_expert_cache_reset_counts(&cache_);
    peak_ = occupied_;
}

}  // namespace nestling
