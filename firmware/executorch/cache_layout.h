// How the caches of a conversation lie in memory, and how they are cut into blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tables.h"

namespace nestling {

// The rows of one growing slot, from one page border to another.
struct CachePart {
    uint32_t slot;
    size_t row_bytes;
    size_t block_bytes;  // rows of one block: whole pages
    size_t offset;       // among all parts, where each is as long as all its blocks
};

// A block is the rows of `block_tokens` tokens in all caches. Kernels read a cache as one array, so
// blocks lie where their rows are wanted, and what is moved, shared or taken away is pages: a block
// has as few tokens as make whole pages in every cache.
struct CacheLayout {
    std::vector<CachePart> parts;  // in the order in which a chain reads them
    uint32_t rows = 0;             // of each cache
    uint32_t block_tokens = 0;
    uint32_t blocks = 0;  // that cover all rows
    size_t block_bytes = 0;
    size_t bytes = 0;  // of all parts

    CacheLayout() = default;
    explicit CacheLayout(const Tables &tables);

    // Blocks that hold rows 0..rows-1.
    uint32_t blocks_of(uint32_t count) const {
        return block_tokens == 0 ? 0 : (count + block_tokens - 1) / block_tokens;
    }
    // NST_NONE: it does not grow.
    uint32_t part_of(uint32_t slot) const;
};

}  // namespace nestling
