// Memory that ExecuTorch asks for, given in a way that can be counted and reused.
#pragma once

#include <executorch/runtime/core/memory_allocator.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "system_memory.h"

namespace nestling {

// Records of one loaded method: grows by chunks, freed as a whole. Counts what it took.
class ChunkAllocator final : public executorch::runtime::MemoryAllocator {
  public:
    explicit ChunkAllocator(size_t chunk_bytes);
    ~ChunkAllocator() override;

    void *allocate(size_t bytes, size_t alignment = kDefaultAlignment) override;
    // Makes all memory free again and keeps it: a steady state allocates nothing.
    void reset() override;

    size_t total_bytes() const { return total_bytes_; }

  private:
    struct Chunk {
        uint8_t *memory;
        size_t bytes;
    };
    size_t chunk_bytes_;
    std::vector<Chunk> chunks_;
    size_t current_ = 0;  // chunk that is being filled
    size_t used_ = 0;     // bytes of it
    size_t total_bytes_ = 0;
};

}  // namespace nestling
