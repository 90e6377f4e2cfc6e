// Common beginnings: blocks that several conversations have, found and kept once.
#include <algorithm>
#include <cstring>

#include "cache_pool.h"

namespace nestling {

std::vector<bool> CachePool::filled_parts(const CachePager &pager, uint32_t block) const {
    std::vector<bool> filled;
    for (const RowRange &rows : pager.rows_) {
        filled.push_back(rows.first <= block * layout_.block_tokens &&
                         rows.end >= (block + 1) * layout_.block_tokens);
    }
    return filled;
}

// Lets others find its full blocks, and takes theirs in the place of equal ones.
void CachePool::publish(CachePager *pager, const CacheContent &content) {
    const uint32_t size = layout_.block_tokens;
    uint64_t parent = 0;
    for (uint32_t block = 0; (block + 1) * size <= content.tokens.size(); ++block) {
        const auto makers = content.makers.subspan(block * size, size);
        const uint8_t maker = content.makers.front();
        CacheBlock &own = pager->blocks_[block];
        if (!std::all_of(makers.begin(), makers.end(), [&](uint8_t m) { return m == maker; })) {
            return;
        }
        const uint32_t path = content.keys[maker];
        if (own.prefix != nullptr) {
            if (own.prefix->parent != parent || own.prefix->path != path) {
                return;
            }
            parent = own.prefix->id;
            own.prefix->last_use = clock_;
            continue;
        }
        const auto tokens = content.tokens.subspan(block * size, size);
        const std::vector<bool> filled = filled_parts(*pager, block);
        PrefixBlock *known = prefixes_.find(parent, path, tokens);
        if (known == nullptr) {
            known = prefixes_.add(parent, path, tokens);
            known->owner = pager;
            known->owner_block = block;
            known->filled = filled;
            known->last_use = clock_;
            own.prefix = known;
        } else if (known->filled != filled || !attach(pager, block, known)) {
            return;
        }
        parent = known->id;
    }
}

// Moves a block from its owner to shared memory. False: it cannot be, and nothing has changed.
bool CachePool::share(PrefixBlock *prefix) {
    CachePager *owner = prefix->owner;
    if (owner == nullptr) {
        return true;
    }
    const uint32_t block = prefix->owner_block;
    const CacheBlock *before = block > 0 ? &owner->blocks_[block - 1] : nullptr;
    const uint32_t index = shared_.take(
        before != nullptr && before->where == Where::kShared ? before->prefix->index : NST_NONE);
    if (index == NST_NONE) {
        return false;
    }
    // Part by part, so that no more than a part is there twice. The owner may be reading meanwhile:
    // the system puts one mapping in the place of another in one step, and both hold the same.
    for (uint32_t part = 0; part < layout_.parts.size(); ++part) {
        std::memcpy(shared_.at(index, part), owner->at(block, part),
                    layout_.parts[part].block_bytes);
        if (!shared_.map(index, part, owner->at(block, part))) {
            static_cast<void>(owner->detach(block, index, shared_));
            shared_.give_back(index);
            return false;
        }
    }
    owner->blocks_[block].where = Where::kShared;
    prefix->owner = nullptr;
    prefix->index = index;
    prefix->users = {owner};
    return true;
}

// Lets a conversation see a block of others in the place of whatever it has there.
bool CachePool::attach(CachePager *pager, uint32_t block, PrefixBlock *prefix) {
    if (!share(prefix)) {
        return false;
    }
    CacheBlock &own = pager->blocks_[block];
    if (!pager->attach(block, shared_, prefix->index)) {
        // A block of its own holds the same, or nothing that anybody needs.
        static_cast<void>(pager->detach(block, prefix->index, shared_));
        if (own.where != Where::kOwn) {
            drop(pager, block);
        }
        return false;
    }
    if (own.where == Where::kOwn) {
        --used_;
        if (own.prefix != nullptr) {
            prefixes_.remove(own.prefix);
        }
    } else if (own.where == Where::kShared) {
        release(own.prefix, pager);
    }
    own = {Where::kShared, false, prefix};
    prefix->users.push_back(pager);
    prefix->last_use = clock_;
    return true;
}

uint32_t CachePool::adopt(CachePager *pager, uint32_t path, std::span<const uint32_t> tokens,
                          uint32_t from, Growth *growth) {
    const uint32_t size = layout_.block_tokens;
    uint32_t block = from / size;
    if (!share_ || (block + 1) * size > tokens.size()) {
        return from;
    }
    Lock lock(mutex_);
    uint64_t parent = 0;
    for (uint32_t i = 0; i < block; ++i) {
        const PrefixBlock *prefix = pager->blocks_[i].prefix;
        if (prefix == nullptr || prefix->path != path || prefix->parent != parent) {
            return from;
        }
        parent = prefix->id;
    }
    while ((block + 1) * size <= tokens.size()) {
        PrefixBlock *known = prefixes_.find(parent, path, tokens.subspan(block * size, size));
        if (known == nullptr || !may_replace(block, *known, *growth)) {
            break;
        }
        if (pager->blocks_[block].prefix != known) {
            if (pager->blocks_[block].where == Where::kOwn &&
                pager->transfer_ == Transfer::kLoading) {
                changed_.wait(lock, [&] { return pager->transfer_ == Transfer::kNone; });
                continue;
            }
            if (!attach(pager, block, known)) {
                break;
            }
            pager->writable_first_ = pager->writable_end_ = 0;
        }
        for (uint32_t part = 0; part < layout_.parts.size(); ++part) {
            if (known->filled[part]) {
                growth->extend(layout_.parts[part].slot, block * size, (block + 1) * size);
            }
        }
        known->last_use = clock_;
        parent = known->id;
        ++block;
    }
    const uint32_t reached = std::max(from, block * size);
    counts_.adopted_tokens += reached - from;
    return reached;
}

// Whether a conversation loses nothing when it takes a shared block for its own.
bool CachePool::may_replace(uint32_t block, const PrefixBlock &prefix, const Growth &growth) const {
    for (uint32_t part = 0; part < layout_.parts.size(); ++part) {
        const RowRange rows = growth.rows(layout_.parts[part].slot);
        if (!prefix.filled[part] && rows.end > block * layout_.block_tokens) {
            return false;
        }
    }
    return true;
}

}  // namespace nestling
