#include "allocators.h"

#include <algorithm>
#include <cstdlib>

namespace nestling {
namespace {

constexpr size_t kAlignment = 64;  // of chunks; ExecuTorch never asks for more

}  // namespace

ChunkAllocator::ChunkAllocator(size_t chunk_bytes)
    : MemoryAllocator(0, nullptr), chunk_bytes_(chunk_bytes) {}

ChunkAllocator::~ChunkAllocator() {
    for (const Chunk &chunk : chunks_) {
        std::free(chunk.memory);
    }
}

void *ChunkAllocator::allocate(size_t bytes, size_t alignment) {
    if (!isPowerOf2(alignment) || alignment > kAlignment || bytes > SIZE_MAX / 2) {
        return nullptr;
    }
    while (current_ < chunks_.size()) {
        const size_t start = (used_ + alignment - 1) & ~(alignment - 1);
        if (start <= chunks_[current_].bytes && bytes <= chunks_[current_].bytes - start) {
            used_ = start + bytes;
            return chunks_[current_].memory + start;
        }
        ++current_;
        used_ = 0;
    }
    const size_t wanted = std::max(bytes, chunk_bytes_);
    auto *memory = static_cast<uint8_t *>(aligned_bytes(wanted));
    if (memory == nullptr) {
        return nullptr;
    }
    chunks_.push_back({memory, wanted});
    total_bytes_ += wanted;
    current_ = chunks_.size() - 1;
    used_ = bytes;
    return memory;
}

void ChunkAllocator::reset() {
    current_ = 0;
    used_ = 0;
}

}  // namespace nestling
