// The pool's thread: reads what is wanted, and writes what is idle.
#include <algorithm>

#include "cache_pool.h"

namespace nestling {

void CachePool::work() {
    Lock lock(mutex_);
    while (!closing_) {
        if (!reads_.empty()) {
            CachePager *pager = reads_.front();
            reads_.pop_front();
            load(lock, pager);
        } else if (CachePager *unsaved = find_unsaved(); unsaved != nullptr) {
            save_behind(lock, unsaved);
        } else {
            changed_.wait(lock);
        }
    }
}

void CachePool::load(Lock &lock, CachePager *pager) {
    const auto parts = static_cast<uint32_t>(layout_.parts.size());
    SwapCounts counts;
    nst_error error{};
    lock.unlock();
    int code = pager->file_.open_for_loading(&error);
    for (uint32_t part = 0; part < parts && code == NST_OK; ++part) {
        code = pager->file_.load(part, pager->to_load_, pager->memory_, &counts, &error);
        if (code == NST_OK) {
            const std::lock_guard ready(mutex_);
            pager->ready_.store(part + 1, std::memory_order_release);
            changed_.notify_all();
        }
    }
    pager->file_.close_after_loading();
    lock.lock();
    pager->transfer_ = Transfer::kNone;
    pager->lost_ = code;
    pager->lost_error_ = error;
    counts_.read_bytes += counts.bytes;
    counts_.reads += counts.transfers;
    changed_.notify_all();
}

// Whom to save before anybody needs its memory; only when memory is short: files cost as well.
CachePager *CachePool::find_unsaved() {
    CachePager *oldest = nullptr;
    for (CachePager *pager : pagers_) {
        const bool idle = pager->behind_ && !pager->in_use_ && pager->resident_ &&
                          pager->transfer_ == Transfer::kNone;
        if (short_of_memory() && idle &&
            (oldest == nullptr || pager->last_use_ < oldest->last_use_)) {
            oldest = pager;
        }
    }
    return oldest;
}

void CachePool::save_behind(Lock &lock, CachePager *pager) {
    std::vector<uint32_t> blocks;
    for (uint32_t block = 0; block < layout_.blocks; ++block) {
        const CacheBlock &own = pager->blocks_[block];
        if (own.where == Where::kOwn && !own.saved) {
            blocks.push_back(block);
        }
    }
    pager->behind_ = false;
    if (blocks.empty()) {
        return;
    }
    pager->wanted_.store(false, std::memory_order_relaxed);
    pager->transfer_ = Transfer::kSaving;
    SwapCounts counts;
    lock.unlock();
    // When it fails, taking its memory will say so.
    const int code =
        pager->file_.save(pager->memory_, blocks, pager->rows_, &pager->wanted_, &counts, nullptr);
    lock.lock();
    pager->transfer_ = Transfer::kNone;
    for (const uint32_t block : blocks) {
        pager->blocks_[block].saved = code == NST_OK;
    }
    counts_.written_bytes += counts.bytes;
    counts_.writes += counts.transfers;
    changed_.notify_all();
}

}  // namespace nestling
