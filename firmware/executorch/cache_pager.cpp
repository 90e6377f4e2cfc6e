#include "cache_pager.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "cache_pool.h"

namespace nestling {

CachePager::CachePager(CachePool &pool, uint8_t *memory, std::string swap_path)
    : pool_(pool),
      layout_(pool.layout()),
      memory_(memory),
      file_(layout_, std::move(swap_path)),
      blocks_(layout_.blocks),
      rows_(layout_.parts.size()),
      ready_(static_cast<uint32_t>(layout_.parts.size())) {
    pool_.add(this);
}

CachePager::~CachePager() {
    pool_.remove(this);
}

int CachePager::make_room(uint32_t first, uint32_t end, nst_error *err) {
    const uint32_t first_block = first / layout_.block_tokens;
    const uint32_t end_block = layout_.blocks_of(end);
    if (first_block >= writable_first_ && end_block <= writable_end_) {
        return NST_OK;
    }
    if (int code = pool_.own(this, first_block, end_block, err); code != NST_OK) {
        return code;
    }
    if (first_block > writable_end_ || end_block < writable_first_) {
        writable_first_ = first_block;
        writable_end_ = end_block;
    } else {
        writable_first_ = std::min(writable_first_, first_block);
        writable_end_ = std::max(writable_end_, end_block);
    }
    return NST_OK;
}

int CachePager::wait_for(uint32_t slot, nst_error *err) {
    const uint32_t part = layout_.part_of(slot);
    if (part == NST_NONE || ready_.load(std::memory_order_acquire) > part) {
        return NST_OK;
    }
    return pool_.wait_for(this, part, err);
}

uint32_t CachePager::count(CacheBlock::Where where) const {
    return static_cast<uint32_t>(
        std::count_if(blocks_.begin(), blocks_.end(),
                      [&](const CacheBlock &block) { return block.where == where; }));
}

bool CachePager::detach(uint32_t block, uint32_t content, const SharedBlocks &shared) {
    for (uint32_t part = 0; part < layout_.parts.size(); ++part) {
        const size_t bytes = layout_.parts[part].block_bytes;
        void *fresh = mmap(at(block, part), bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (fresh == MAP_FAILED) {
            return false;
        }
        if (content != NST_NONE) {
            std::memcpy(fresh, shared.at(content, part), bytes);
        }
    }
    return true;
}

bool CachePager::attach(uint32_t block, const SharedBlocks &shared, uint32_t index) {
    for (uint32_t part = 0; part < layout_.parts.size(); ++part) {
        if (!shared.map(index, part, at(block, part))) {
            return false;
        }
    }
    return true;
}

void CachePager::discard(uint32_t first, uint32_t end) {
    for (uint32_t part = 0; first < end && part < layout_.parts.size(); ++part) {
        static_cast<void>(madvise(at(first, part), (end - first) * layout_.parts[part].block_bytes,
                                  MADV_DONTNEED));
    }
}

}  // namespace nestling
