#include "cache_pool.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "status.h"

namespace nestling {

CachePool::~CachePool() {
    {
        const std::lock_guard lock(mutex_);
        closing_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
    }
    if (!folder_.empty()) {
        rmdir(folder_.c_str());
    }
}

int CachePool::open(const nst_pool_options &options, nst_error *err) {
    if (layout_.parts.empty()) {
        return failf(err, NST_E_PATH, {}, 0, 0, "the bundle holds no decoder");
    }
    budget_ = std::min<uint64_t>(options.budget_bytes / layout_.block_bytes, UINT32_MAX);
    if (budget_ < 2) {
        return failf(err, NST_E_BUDGET, {}, 2 * layout_.block_bytes, options.budget_bytes,
                     "the budget holds less than two blocks");
    }
    share_ = options.share != 0;
    if (share_) {
        if (int code = shared_.open(static_cast<uint32_t>(budget_), err); code != NST_OK) {
            return code;
        }
    }
    const char *place = options.folder != nullptr ? options.folder : std::getenv("TMPDIR");
    std::string folder = std::string(place != nullptr ? place : "/tmp") + "/nestling-XXXXXX";
    if (mkdtemp(folder.data()) == nullptr) {
        return failf(err, NST_E_IO, {}, 0, 0, "no folder can be made in %.100s: %s",
                     place != nullptr ? place : "/tmp", std::strerror(errno));
    }
    folder_ = folder;
    thread_ = std::thread([this] { work(); });
    return NST_OK;
}

std::unique_ptr<CachePager> CachePool::make_pager(uint8_t *memory) {
    uint64_t number = 0;
    {
        const std::lock_guard lock(mutex_);
        number = ++made_;
    }
    return std::make_unique<CachePager>(*this, memory,
                                        folder_ + "/" + std::to_string(number) + ".swap");
}

bool CachePool::empty() {
    const std::lock_guard lock(mutex_);
    return pagers_.empty();
}

void CachePool::add(CachePager *pager) {
    const std::lock_guard lock(mutex_);
    pagers_.push_back(pager);
}

void CachePool::remove(CachePager *pager) {
    Lock lock(mutex_);
    await(lock, pager, true);
    // What others may want stays until its memory is wanted.
    for (uint32_t block = 0; block < layout_.blocks; ++block) {
        CacheBlock &own = pager->blocks_[block];
        if (own.where == Where::kOwn && own.prefix != nullptr) {
            static_cast<void>(share(own.prefix));
        }
        drop(pager, block);
    }
    std::erase(pagers_, pager);
    changed_.notify_all();
}

// Until nobody saves, or loads, its rows.
void CachePool::await(Lock &lock, CachePager *pager, bool loading_too) {
    pager->wanted_.store(true, std::memory_order_relaxed);
    changed_.wait(lock, [&] {
        return pager->transfer_ == Transfer::kNone ||
               (!loading_too && pager->transfer_ == Transfer::kLoading);
    });
    pager->wanted_.store(false, std::memory_order_relaxed);
}

int CachePool::begin(CachePager *pager, bool *forgotten, nst_error *err) {
    Lock lock(mutex_);
    await(lock, pager, false);
    *forgotten = pager->lost_ != NST_OK;
    if (*forgotten) {
        const int code = pager->lost_;
        if (err != nullptr) {
            *err = pager->lost_error_;
        }
        forget(pager);
        return code;
    }
    pager->in_use_ = true;
    pager->last_use_ = ++clock_;
    const int code = start_loading(lock, pager, err);
    pager->in_use_ = code == NST_OK;
    return code;
}

int CachePool::start_loading(Lock &lock, CachePager *pager, nst_error *err) {
    if (pager->resident_) {
        return NST_OK;
    }
    pager->resident_ = true;  // so that nobody takes what it shares
    const uint32_t wanted = pager->count(Where::kAway);
    if (int code = reserve(lock, pager, wanted, err); code != NST_OK) {
        pager->resident_ = false;
        return code;
    }
    if (wanted == 0) {
        return NST_OK;
    }
    away_ -= wanted;
    pager->to_load_.clear();
    for (uint32_t block = 0; block < layout_.blocks; ++block) {
        if (pager->blocks_[block].where == Where::kAway) {
            pager->blocks_[block].where = Where::kOwn;
            pager->to_load_.push_back(block);
        }
    }
    pager->ready_.store(0, std::memory_order_release);
    pager->transfer_ = Transfer::kLoading;
    ++counts_.swap_ins;
    reads_.push_back(pager);
    changed_.notify_all();
    return NST_OK;
}

int CachePool::end(CachePager *pager, const CacheContent &content, const Growth &growth,
                   bool *forgotten, nst_error *err) {
    Lock lock(mutex_);
    changed_.wait(lock, [&] { return pager->transfer_ == Transfer::kNone; });
    pager->in_use_ = false;
    pager->writable_first_ = pager->writable_end_ = 0;
    pager->last_use_ = ++clock_;
    const int code = pager->lost_;
    *forgotten = code != NST_OK;
    if (*forgotten) {
        if (err != nullptr) {
            *err = pager->lost_error_;
        }
        forget(pager);
    } else {
        for (uint32_t part = 0; part < layout_.parts.size(); ++part) {
            pager->rows_[part] = growth.rows(layout_.parts[part].slot);
        }
        const auto computed = static_cast<uint32_t>(content.tokens.size());
        for (uint32_t block = layout_.blocks_of(computed); block < layout_.blocks; ++block) {
            drop(pager, block);
        }
        if (share_) {
            publish(pager, content);
        }
    }
    pager->behind_ = true;
    changed_.notify_all();
    return code;
}

int CachePool::wait_for(CachePager *pager, uint32_t part, nst_error *err) {
    Lock lock(mutex_);
    changed_.wait(lock, [&] {
        return pager->lost_ != NST_OK || pager->ready_.load(std::memory_order_relaxed) > part;
    });
    if (pager->lost_ != NST_OK && err != nullptr) {
        *err = pager->lost_error_;
    }
    return pager->lost_;
}

int CachePool::own(CachePager *pager, uint32_t first_block, uint32_t end_block, nst_error *err) {
    Lock lock(mutex_);
    uint32_t got = 0;
    uint32_t wanted = 0;
    for (;;) {
        wanted = 0;
        for (uint32_t block = first_block; block < end_block; ++block) {
            wanted += pager->blocks_[block].where != Where::kOwn ? 1 : 0;
        }
        if (wanted <= got) {
            break;
        }
        // Others may begin to share its blocks while the lock is gone.
        if (int code = reserve(lock, pager, wanted - got, err); code != NST_OK) {
            used_ -= got;
            return code;
        }
        got = wanted;
    }
    used_ -= got;
    for (uint32_t block = first_block; block < end_block; ++block) {
        CacheBlock &own = pager->blocks_[block];
        if (own.where == Where::kShared) {
            if (!pager->detach(block, own.prefix->index, shared_)) {
                return failf(err, NST_E_NO_MEMORY, {}, 0, 0, "no memory to copy shared caches");
            }
            release(own.prefix, pager);
        } else if (own.prefix != nullptr) {
            prefixes_.remove(own.prefix);  // it will hold something else
        }
        used_ += own.where != Where::kOwn ? 1 : 0;
        own = {Where::kOwn, false, nullptr};
    }
    return NST_OK;
}

void CachePool::truncate(CachePager *pager, uint32_t rows) {
    Lock lock(mutex_);
    await(lock, pager, true);
    for (uint32_t block = layout_.blocks_of(rows); block < layout_.blocks; ++block) {
        drop(pager, block);
    }
    for (RowRange &filled : pager->rows_) {
        filled.end = std::min(filled.end, rows);
        filled.first = std::min(filled.first, filled.end);
    }
}

void CachePool::release(PrefixBlock *prefix, CachePager *pager) {
    std::erase(prefix->users, pager);
    prefix->last_use = clock_;
}

// Whatever the block is, it is nowhere then.
void CachePool::drop(CachePager *pager, uint32_t block) {
    CacheBlock &own = pager->blocks_[block];
    switch (own.where) {
        case Where::kOwn:
            if (own.prefix != nullptr) {
                prefixes_.remove(own.prefix);
            }
            pager->discard(block, block + 1);
            --used_;
            break;
        case Where::kShared:
            static_cast<void>(pager->detach(block, NST_NONE, shared_));
            release(own.prefix, pager);
            break;
        case Where::kAway:
            --away_;
            break;
        case Where::kNowhere:
            break;
    }
    own = {};
}

void CachePool::forget(CachePager *pager) {
    for (uint32_t block = 0; block < layout_.blocks; ++block) {
        drop(pager, block);
    }
    std::fill(pager->rows_.begin(), pager->rows_.end(), RowRange{});
    pager->ready_.store(static_cast<uint32_t>(layout_.parts.size()), std::memory_order_release);
    pager->resident_ = true;
    pager->lost_ = NST_OK;
}

int CachePool::swap_out(CachePager *pager, nst_error *err) {
    Lock lock(mutex_);
    for (;;) {
        await(lock, pager, true);
        if (pager->lost_ != NST_OK || (!pager->resident_ && !holds_memory(*pager))) {
            return NST_OK;
        }
        if (int code = write_out(lock, pager, err); code != NST_OK) {
            return code;
        }
    }
}

int CachePool::swap_in(CachePager *pager, nst_error *err) {
    Lock lock(mutex_);
    await(lock, pager, false);
    pager->in_use_ = true;
    pager->last_use_ = ++clock_;
    const int code = start_loading(lock, pager, err);
    pager->in_use_ = false;
    changed_.notify_all();
    return code;
}

void CachePool::state(nst_pool_state *out) {
    const std::lock_guard lock(mutex_);
    *out = counts_;
    out->budget_bytes = budget_ * layout_.block_bytes;
    out->used_bytes = used_ * layout_.block_bytes;
    out->shared_bytes = shared_.taken() * layout_.block_bytes;
    out->away_bytes = away_ * layout_.block_bytes;
    out->block_bytes = layout_.block_bytes;
    out->block_tokens = layout_.block_tokens;
    out->conversations = static_cast<uint32_t>(pagers_.size());
}

void CachePool::cache(CachePager *pager, nst_pool_cache *out) {
    const std::lock_guard lock(mutex_);
    *out = {pager->count(Where::kOwn), pager->count(Where::kShared), pager->count(Where::kAway),
            static_cast<uint32_t>(std::count_if(pager->blocks_.begin(), pager->blocks_.end(),
                                                [](const CacheBlock &b) { return b.saved; }))};
}

}  // namespace nestling
