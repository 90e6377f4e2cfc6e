// Memory of cache blocks that several conversations read.
#pragma once

#include <cstdint>
#include <vector>

#include "cache_layout.h"
#include "core/error.h"

namespace nestling {

// An anonymous file, of which every reader maps the blocks that it shares, in the midst of its own
// contiguous caches; pages that somebody writes by mistake become that one's own. The file has room
// for `capacity` blocks but pages only where blocks are. Parts lie one after the other, each with
// all its blocks, so that neighbouring blocks are mapped, and kept by the system, as one piece.
class SharedBlocks {
  public:
    explicit SharedBlocks(const CacheLayout &layout) : layout_(layout) {}
    ~SharedBlocks();
    SharedBlocks(const SharedBlocks &) = delete;
    SharedBlocks &operator=(const SharedBlocks &) = delete;

    int open(uint32_t capacity, nst_error *err);

    // A block without content, best behind `previous`; NST_NONE: all are taken.
    uint32_t take(uint32_t previous);
    uint64_t taken() const;
    // Gives its pages back.
    void give_back(uint32_t block);

    uint8_t *at(uint32_t block, uint32_t part) const { return base_ + offset(block, part); }
    // Lets one part of a block be seen at `address`; false: the system has no more mappings.
    bool map(uint32_t block, uint32_t part, uint8_t *address) const;

  private:
    size_t offset(uint32_t block, uint32_t part) const {
        return layout_.parts[part].offset / layout_.blocks * taken_.size() +
               block * layout_.parts[part].block_bytes;
    }

    const CacheLayout &layout_;
    int file_ = -1;
    uint8_t *base_ = nullptr;
    size_t bytes_ = 0;
    std::vector<bool> taken_;  // [block]
};

}  // namespace nestling
