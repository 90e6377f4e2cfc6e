// The pool's budget: who leaves memory, and how.
#include <algorithm>

#include "cache_pool.h"
#include "status.h"

namespace nestling {

int CachePool::reserve(Lock &lock, CachePager *pager, uint32_t blocks, nst_error *err) {
    while (used_ + blocks > budget_) {
        if (PrefixBlock *unused = prefixes_.oldest_unused(); unused != nullptr) {
            shared_.give_back(unused->index);
            prefixes_.remove(unused);
            --used_;
            continue;
        }
        bool waiting = false;
        CachePager *victim = find_victim(pager, &waiting);
        if (victim != nullptr) {
            if (int code = write_out(lock, victim, err); code != NST_OK) {
                return code;
            }
        } else if (waiting) {
            changed_.wait(lock);
        } else {
            return failf(err, NST_E_BUDGET, {}, (used_ + blocks) * layout_.block_bytes,
                         budget_ * layout_.block_bytes,
                         "the caches of what generates now do not fit into the budget");
        }
    }
    used_ += blocks;
    counts_.peak_bytes = std::max(counts_.peak_bytes, used_ * layout_.block_bytes);
    return NST_OK;
}

// Whom to swap out. `*waiting`: there will be somebody, when a transfer has ended.
CachePager *CachePool::find_victim(const CachePager *except, bool *waiting) {
    CachePager *oldest = nullptr;
    for (CachePager *pager : pagers_) {
        if (pager == except || pager->in_use_ || !holds_memory(*pager)) {
            continue;
        }
        if (pager->transfer_ != Transfer::kNone) {
            pager->wanted_.store(true, std::memory_order_relaxed);
            *waiting = true;
        } else if (oldest == nullptr || pager->last_use_ < oldest->last_use_) {
            oldest = pager;
        }
    }
    return oldest;
}

bool CachePool::has_resident_user(const PrefixBlock &prefix, const CachePager *except) const {
    return std::any_of(prefix.users.begin(), prefix.users.end(),
                       [&](const CachePager *user) { return user != except && user->resident_; });
}

bool CachePool::holds_memory(const CachePager &pager) const {
    return std::any_of(pager.blocks_.begin(), pager.blocks_.end(), [&](const CacheBlock &block) {
        return block.where == Where::kOwn ||
               (block.where == Where::kShared && !has_resident_user(*block.prefix, &pager));
    });
}

// Everything of a conversation that only it keeps in memory goes to its file; blocks that others
// share, who are away, go to their files too.
int CachePool::write_out(Lock &lock, CachePager *pager, nst_error *err) {
    struct Work {
        CachePager *pager;
        std::vector<uint32_t> blocks;
    };
    std::vector<Work> work = {{pager, {}}};
    const auto add = [&](CachePager *who, uint32_t block) {
        if (who->blocks_[block].saved) {
            return;
        }
        auto entry = std::find_if(work.begin(), work.end(),
                                  [&](const Work &other) { return other.pager == who; });
        if (entry == work.end()) {
            work.push_back({who, {}});
            entry = work.end() - 1;
        }
        entry->blocks.push_back(block);
    };
    for (uint32_t block = 0; block < layout_.blocks; ++block) {
        const CacheBlock &own = pager->blocks_[block];
        if (own.where == Where::kOwn) {
            add(pager, block);
        } else if (own.where == Where::kShared && !has_resident_user(*own.prefix, pager)) {
            for (CachePager *user : own.prefix->users) {
                add(user, block);
            }
        }
    }
    for (const Work &one : work) {
        if (one.pager->transfer_ != Transfer::kNone) {
            changed_.wait(lock);
            return NST_OK;  // the caller looks again
        }
    }
    for (const Work &one : work) {
        one.pager->transfer_ = Transfer::kSaving;
    }
    SwapCounts counts;
    int code = NST_OK;
    lock.unlock();
    for (const Work &one : work) {
        if (code == NST_OK && !one.blocks.empty()) {
            code = one.pager->file_.save(one.pager->memory_, one.blocks, one.pager->rows_, nullptr,
                                         &counts, err);
        }
    }
    lock.lock();
    counts_.written_bytes += counts.bytes;
    counts_.writes += counts.transfers;
    for (const Work &one : work) {
        one.pager->transfer_ = Transfer::kNone;
        for (const uint32_t block : one.blocks) {
            one.pager->blocks_[block].saved = code == NST_OK;
        }
    }
    if (code == NST_OK) {
        counts_.swap_outs += pager->resident_ ? 1 : 0;
        pager->resident_ = false;
        leave_memory(pager);
    }
    changed_.notify_all();
    return code;
}

// All of its own is saved. Blocks that somebody in memory shares stay, and those whose last one in
// memory has gone while it was saved: not all who have them have saved them yet.
void CachePool::leave_memory(CachePager *pager) {
    uint32_t first = 0;  // of a run of its own blocks, whose pages go back in one piece
    for (uint32_t block = 0; block < layout_.blocks; ++block) {
        CacheBlock &own = pager->blocks_[block];
        PrefixBlock *prefix = own.prefix;
        if (own.where != Where::kOwn) {
            pager->discard(first, block);
            first = block + 1;
        }
        if (own.where == Where::kOwn) {
            if (prefix != nullptr) {
                prefixes_.remove(prefix);
            }
            own = {Where::kAway, true, nullptr};
            --used_;
            ++away_;
        } else if (own.where == Where::kShared && !has_resident_user(*prefix, nullptr) &&
                   std::all_of(
                       prefix->users.begin(), prefix->users.end(),
                       [&](const CachePager *user) { return user->blocks_[block].saved; })) {
            for (CachePager *user : prefix->users) {
                static_cast<void>(user->detach(block, NST_NONE, shared_));
                user->blocks_[block] = {Where::kAway, true, nullptr};
                ++away_;
            }
            shared_.give_back(prefix->index);
            prefixes_.remove(prefix);
            --used_;
        }
    }
    pager->discard(first, layout_.blocks);
}

}  // namespace nestling
