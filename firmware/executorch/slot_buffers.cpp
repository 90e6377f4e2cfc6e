#include "slot_buffers.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "cache_layout.h"

namespace nestling {
namespace {

// Buffers start on cache lines, and vector kernels may read a little past the end of one.
constexpr uint64_t kAlignment = 64;
constexpr uint64_t kTailBytes = 64;
constexpr uint64_t kMostBytes = SIZE_MAX >> 20;  // of one slot: then no sum of them overflows

uint64_t footprint(const Slot &slot) {
    return (slot.bytes + kTailBytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Beside the first one of a growing slot, which is a cache.
uint32_t own_buffers(const Slot &slot) {
    return slot.grows ? slot.buffers - 1 : slot.buffers;
}

}  // namespace

SlotBuffers::~SlotBuffers() {
    if (memory_ != nullptr) {
        munmap(memory_, bytes_);
    }
}

bool SlotBuffers::open(const Tables &tables) {
    tables_ = &tables;
    if (std::any_of(tables.slots.begin(), tables.slots.end(),
                    [](const Slot &slot) { return slot.bytes > kMostBytes; })) {
        return false;
    }
    // Caches first, on borders of pages.
    const CacheLayout layout(tables);
    uint64_t total = layout.bytes;
    for (const Slot &slot : tables.slots) {
        if (total > SIZE_MAX / 4) {
            return false;
        }
        total += footprint(slot) * own_buffers(slot);
    }
    bytes_ = static_cast<size_t>(total + kTailBytes);
    void *memory =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    memory_ = static_cast<uint8_t *>(memory);
    places_.resize(tables.slots.size());
    own_.resize(tables.slots.size());
    uint8_t *next = memory_ + layout.bytes;
    for (size_t i = 0; i < tables.slots.size(); ++i) {
        const Slot &slot = tables.slots[i];
        if (slot.append != NST_NONE) {
            const auto rows = static_cast<size_t>(slot.shape[0]);
            rows_.push_back(
                {static_cast<uint32_t>(i), slot.append, static_cast<size_t>(slot.bytes) / rows});
            continue;
        }
        const uint32_t part = slot.grows ? layout.part_of(static_cast<uint32_t>(i)) : NST_NONE;
        uint8_t *first = part != NST_NONE ? memory_ + layout.parts[part].offset : next;
        next += own_buffers(slot) * footprint(slot);
        uint8_t *second = slot.buffers > 1 ? next - footprint(slot) : first;
        own_[i] = first;
        places_[i] = {first, second, first, second};
    }
    point_rows(0);
    return true;
}

void *SlotBuffers::outside(uint32_t slot) const {
    const bool state = tables_->slots[slot].role == NST_STATE;
    return places_[slot][static_cast<size_t>(state ? Place::kStateNow : Place::kFirst)];
}

void SlotBuffers::bind(uint32_t slot, void *data) {
    places_[slot][static_cast<size_t>(Place::kFirst)] =
        data != nullptr ? static_cast<uint8_t *>(data) : own_[slot];
}

void SlotBuffers::flip_state(uint32_t slot) {
    std::swap(places_[slot][static_cast<size_t>(Place::kStateNow)],
              places_[slot][static_cast<size_t>(Place::kStateOther)]);
}

void SlotBuffers::point_rows(uint32_t position) {
    for (const Rows &rows : rows_) {
        uint8_t *at = own_[rows.state] + position * rows.row_bytes;
        places_[rows.slot] = {at, at, at, at};
    }
}

void SlotBuffers::clear_states() {
    for (uint32_t i = 0; i < places_.size(); ++i) {
        if (tables_->slots[i].role == NST_STATE && !tables_->slots[i].grows) {
            std::memset(outside(i), 0, static_cast<size_t>(tables_->slots[i].bytes));
        }
    }
}

}  // namespace nestling
