#include "slot_buffers.h"

#include <sys/mman.h>

#include <cstring>
#include <utility>

namespace nestling {
namespace {

// Buffers start on cache lines, and vector kernels may read a little past the end of one.
constexpr uint64_t kAlignment = 64;
constexpr uint64_t kTailBytes = 64;

uint64_t footprint(const Slot &slot) {
    return (slot.bytes + kTailBytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

SlotBuffers::~SlotBuffers() {
    if (memory_ != nullptr) {
        munmap(memory_, bytes_);
    }
}

bool SlotBuffers::open(const Tables &tables) {
    tables_ = &tables;
    uint64_t total = 0;
    for (const Slot &slot : tables.slots) {
        if (slot.bytes > SIZE_MAX / 16 || total > SIZE_MAX / 4) {
            return false;
        }
        total += footprint(slot) * slot.buffers;
    }
    bytes_ = static_cast<size_t>(total);
    void *memory =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    memory_ = static_cast<uint8_t *>(memory);
    places_.resize(tables.slots.size());
    own_.resize(tables.slots.size());
    uint8_t *next = memory_;
    for (size_t i = 0; i < tables.slots.size(); ++i) {
        const Slot &slot = tables.slots[i];
        if (slot.append != NST_NONE) {
            const auto rows = static_cast<size_t>(slot.shape[0]);
            rows_.push_back(
                {static_cast<uint32_t>(i), slot.append, static_cast<size_t>(slot.bytes) / rows});
            continue;
        }
        uint8_t *second = next + (slot.buffers - 1) * footprint(slot);
        own_[i] = next;
        places_[i] = {next, second, next, second};
        next += slot.buffers * footprint(slot);
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
