#include "plan.h"

#include <algorithm>

namespace nestling {
namespace {

// Where the value is after `done` of `done + left` writes.
Place place_of(const Slot &slot, uint32_t done, uint32_t left) {
    if (slot.role == NST_STATE) {
        return done % 2 == 0 ? Place::kStateNow : Place::kStateOther;
    }
    return left % 2 == 0 ? Place::kFirst : Place::kSecond;
}

}  // namespace

void Plan::reserve(size_t steps, size_t arguments, size_t slots) {
    steps_.reserve(steps);
    stages_.reserve(steps);
    arguments_.reserve(arguments);
    flipped_.reserve(slots);
    appended_.reserve(slots);
    states_.reserve(slots);
    writes_left_.assign(slots, 0);
    writes_done_.assign(slots, 0);
}

void Plan::build(const Tables &tables, std::span<const uint32_t> stages) {
    steps_.clear();
    arguments_.clear();
    stages_.assign(stages.begin(), stages.end());
    flipped_.clear();
    appended_.clear();
    states_.clear();
    rows_ = 0;
    for (const uint32_t index : stages) {
        note_growth(tables, tables.stages[index]);
        for (const uint32_t slot : tables.stages[index].outputs) {
            ++writes_left_[slot];
        }
    }
    for (const uint32_t index : stages) {
        const Stage &stage = tables.stages[index];
        const auto first = static_cast<uint32_t>(arguments_.size());
        for (const uint32_t slot : stage.inputs) {
            arguments_.push_back(
                {slot, place_of(tables.slots[slot], writes_done_[slot], writes_left_[slot])});
        }
        for (const uint32_t slot : stage.outputs) {
            ++writes_done_[slot];
            --writes_left_[slot];
            arguments_.push_back(
                {slot, place_of(tables.slots[slot], writes_done_[slot], writes_left_[slot])});
        }
        steps_.push_back({index, first, static_cast<uint32_t>(arguments_.size()) - first});
    }
    for (const uint32_t index : stages) {
        for (const uint32_t slot : tables.stages[index].outputs) {
            if (tables.slots[slot].role == NST_STATE && writes_done_[slot] % 2 == 1) {
                flipped_.push_back(slot);
            }
            writes_done_[slot] = 0;
        }
    }
}

void Plan::note_growth(const Tables &tables, const Stage &stage) {
    const auto appends_to = [&](uint32_t state) {
        return std::any_of(stage.outputs.begin(), stage.outputs.end(),
                           [&](uint32_t slot) { return tables.slots[slot].append == state; });
    };
    for (const uint32_t slot : stage.inputs) {
        const bool by_row = !appends_to(slot);
        // Rows of the run's tokens that an earlier stage of it appends are there.
        const bool appended =
            std::find(appended_.begin(), appended_.end(), slot) != appended_.end();
        if (tables.slots[slot].grows && !(by_row && appended)) {
            states_.push_back({slot, by_row});
        }
    }
    for (const uint32_t slot : stage.outputs) {
        if (tables.slots[slot].append != NST_NONE) {
            appended_.push_back(tables.slots[slot].append);
            rows_ = std::max(rows_, static_cast<uint32_t>(tables.slots[slot].shape[0]));
        }
    }
}

}  // namespace nestling
