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
        // The outside world sees the first buffer; stages get the last two of however many there
        // are.
        own_[i] = next;
        uint8_t *second = next + (slot.buffers - 1) * footprint(slot);
        uint8_t *first = slot.buffers == 3 ? next + footprint(slot) : next;
        places_[i] = {first, second, own_[i], first, second};
        next += slot.buffers * footprint(slot);
    }
    return true;
}

void *SlotBuffers::outside(uint32_t slot) const {
    switch (tables_->slots[slot].role) {
        case NST_INPUT:
            return places_[slot][static_cast<size_t>(Place::kBound)];
        case NST_STATE:
            return places_[slot][static_cast<size_t>(Place::kStateNow)];
        case NST_OUTPUT:
        case NST_INTERNAL:
            break;
    }
    return places_[slot][static_cast<size_t>(Place::kFirst)];
}

void SlotBuffers::bind(uint32_t slot, void *data) {
    auto *memory = data != nullptr ? static_cast<uint8_t *>(data) : own_[slot];
    const Place place = tables_->slots[slot].role == NST_INPUT ? Place::kBound : Place::kFirst;
    places_[slot][static_cast<size_t>(place)] = memory;
}

void SlotBuffers::flip_state(uint32_t slot) {
    std::swap(places_[slot][static_cast<size_t>(Place::kStateNow)],
              places_[slot][static_cast<size_t>(Place::kStateOther)]);
}

void SlotBuffers::clear_states() {
    for (uint32_t i = 0; i < places_.size(); ++i) {
        if (tables_->slots[i].role == NST_STATE) {
            std::memset(outside(i), 0, static_cast<size_t>(tables_->slots[i].bytes));
        }
    }
}

}  // namespace nestling
