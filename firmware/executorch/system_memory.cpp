#include "system_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

namespace nestling {
namespace {

constexpr size_t kAlignment = 64;

}  // namespace

void FreeDeleter::operator()(void *memory) const noexcept {
    std::free(memory);
}

void *aligned_bytes(size_t bytes) noexcept {
    if (bytes > SIZE_MAX - kAlignment) {
        return nullptr;
    }
    return std::aligned_alloc(
        kAlignment, (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment);
}

SharedArena::~SharedArena() {
    if (data_ != nullptr) {
        munmap(data_, size_);
    }
}

bool SharedArena::reserve(size_t bytes) {
    if (bytes == 0) {
        return true;
    }
    void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    data_ = static_cast<uint8_t *>(memory);
    size_ = bytes;
    return true;
}

}  // namespace nestling
