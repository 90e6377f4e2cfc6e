#include "cache_layout.h"

#include <unistd.h>

#include <algorithm>
#include <numeric>

namespace nestling {
namespace {

constexpr uint32_t kFewestTokens = 16;  // smaller blocks are more work than they save

// Position of the first stage that reads each slot; those that nobody reads come last.
std::vector<uint32_t> first_readers(const Tables &tables) {
    std::vector<uint32_t> first(tables.slots.size(), UINT32_MAX);
    for (const Stage &stage : tables.stages) {
        for (const uint32_t slot : stage.inputs) {
            first[slot] = std::min(first[slot], stage.first);
        }
    }
    return first;
}

}  // namespace

CacheLayout::CacheLayout(const Tables &tables) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    size_t tokens = 1;
    for (uint32_t i = 0; i < tables.slots.size(); ++i) {
        const Slot &slot = tables.slots[i];
        if (slot.grows) {
            const auto own_rows = static_cast<uint32_t>(slot.shape[0]);
            const size_t row_bytes = static_cast<size_t>(slot.bytes) / own_rows;
            rows = std::max(rows, own_rows);  // the same in all: Growth refuses others
            parts.push_back({i, row_bytes, 0, 0});
            tokens = std::lcm(tokens, page / std::gcd(page, row_bytes));
        }
    }
    if (parts.empty()) {
        return;
    }
    const std::vector<uint32_t> first = first_readers(tables);
    std::stable_sort(parts.begin(), parts.end(), [&](const CachePart &a, const CachePart &b) {
        return first[a.slot] < first[b.slot];
    });
    block_tokens =
        static_cast<uint32_t>(tokens * std::max<size_t>(1, (kFewestTokens + tokens - 1) / tokens));
    blocks = blocks_of(rows);
    for (CachePart &part : parts) {
        part.block_bytes = part.row_bytes * block_tokens;
        part.offset = bytes;
        bytes += part.block_bytes * blocks;
        block_bytes += part.block_bytes;
    }
}

uint32_t CacheLayout::part_of(uint32_t slot) const {
    for (uint32_t i = 0; i < parts.size(); ++i) {
        if (parts[i].slot == slot) {
            return i;
        }
    }
    return NST_NONE;
}

}  // namespace nestling
