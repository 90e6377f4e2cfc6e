// The memory behind the slots of one session.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "plan.h"
#include "tables.h"

namespace nestling {

// One piece of memory for all slots, zero at first. Pages come when they are touched.
class SlotBuffers {
  public:
    SlotBuffers() = default;
    ~SlotBuffers();
    SlotBuffers(const SlotBuffers &) = delete;
    SlotBuffers &operator=(const SlotBuffers &) = delete;

    // False when there is no memory.
    bool open(const Tables &tables);

    void *at(const PlanArgument &argument) const {
        return places_[argument.slot][static_cast<size_t>(argument.place)];
    }
    // What a caller reads or fills between runs.
    void *outside(uint32_t slot) const;

    // Growing slots, as CacheLayout has them.
    uint8_t *caches() const { return memory_; }

    // Null goes back to the session's own memory.
    void bind(uint32_t slot, void *data);
    void flip_state(uint32_t slot);
    // Lets the slots that are rows of growing slots lie at row `position` of them.
    void point_rows(uint32_t position);
    // All but growing ones, whose rows nobody reads before they are written.
    void clear_states();

  private:
    struct Rows {
        uint32_t slot;
        uint32_t state;
        size_t row_bytes;
    };

    const Tables *tables_ = nullptr;
    uint8_t *memory_ = nullptr;
    size_t bytes_ = 0;
    std::vector<std::array<uint8_t *, kPlaces>> places_;  // [slot][Place]
    std::vector<uint8_t *> own_;  // [slot] first buffer of the session's own
    std::vector<Rows> rows_;
};

}  // namespace nestling
