#include "shared_blocks.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "status.h"

namespace nestling {

SharedBlocks::~SharedBlocks() {
    if (base_ != nullptr) {
        munmap(base_, bytes_);
    }
    if (file_ >= 0) {
        close(file_);
    }
}

int SharedBlocks::open(uint32_t capacity, nst_error *err) {
    taken_.assign(capacity, false);
    bytes_ = layout_.block_bytes * capacity;
    file_ = memfd_create("nestling-caches", MFD_CLOEXEC);
    if (file_ < 0 || ftruncate(file_, static_cast<off_t>(bytes_)) != 0) {
        return failf(err, NST_E_NO_MEMORY, {}, 0, 0, "no memory for shared caches: %s",
                     std::strerror(errno));
    }
    void *memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    if (memory == MAP_FAILED) {
        return failf(err, NST_E_NO_MEMORY, {}, 0, 0, "no memory for shared caches: %s",
                     std::strerror(errno));
    }
    base_ = static_cast<uint8_t *>(memory);
    return NST_OK;
}

uint32_t SharedBlocks::take(uint32_t previous) {
    const auto count = static_cast<uint32_t>(taken_.size());
    const uint32_t start = previous == NST_NONE ? 0 : previous + 1;
    for (uint32_t i = 0; i < count; ++i) {
        const uint32_t block = (start + i) % count;
        if (!taken_[block]) {
            taken_[block] = true;
            return block;
        }
    }
    return NST_NONE;
}

uint64_t SharedBlocks::taken() const {
    return static_cast<uint64_t>(std::count(taken_.begin(), taken_.end(), true));
}

void SharedBlocks::give_back(uint32_t block) {
    for (uint32_t part = 0; part < layout_.parts.size(); ++part) {
        static_cast<void>(fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    static_cast<off_t>(offset(block, part)),
                                    static_cast<off_t>(layout_.parts[part].block_bytes)));
    }
    taken_[block] = false;
}

bool SharedBlocks::map(uint32_t block, uint32_t part, uint8_t *address) const {
    return mmap(address, layout_.parts[part].block_bytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_FIXED, file_,
                static_cast<off_t>(offset(block, part))) != MAP_FAILED;
}

}  // namespace nestling
