#include "prefix_index.h"

#include <algorithm>

namespace nestling {
namespace {

uint64_t mix(uint64_t hash, uint64_t value) {
    hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
    return hash;
}

uint64_t hash_of(uint64_t parent, uint32_t path, std::span<const uint32_t> tokens) {
    uint64_t hash = mix(parent, path);
    for (const uint32_t token : tokens) {
        hash = mix(hash, token);
    }
    return hash;
}

}  // namespace

PrefixBlock *PrefixIndex::find(uint64_t parent, uint32_t path,
                               std::span<const uint32_t> tokens) const {
    const auto [begin, end] = blocks_.equal_range(hash_of(parent, path, tokens));
    for (auto entry = begin; entry != end; ++entry) {
        PrefixBlock *block = entry->second.get();
        if (block->parent == parent && block->path == path &&
            std::equal(tokens.begin(), tokens.end(), block->tokens.begin(), block->tokens.end())) {
            return block;
        }
    }
    return nullptr;
}

PrefixBlock *PrefixIndex::add(uint64_t parent, uint32_t path, std::span<const uint32_t> tokens) {
    auto block = std::make_unique<PrefixBlock>();
    block->id = ++last_id_;
    block->parent = parent;
    block->path = path;
    block->tokens.assign(tokens.begin(), tokens.end());
    return blocks_.emplace(hash_of(parent, path, tokens), std::move(block))->second.get();
}

void PrefixIndex::remove(PrefixBlock *block) {
    const auto [begin, end] =
        blocks_.equal_range(hash_of(block->parent, block->path, block->tokens));
    const auto entry = std::find_if(
        begin, end, [&](const auto &candidate) { return candidate.second.get() == block; });
    if (entry != end) {
        blocks_.erase(entry);
    }
}

PrefixBlock *PrefixIndex::oldest_unused() const {
    PrefixBlock *oldest = nullptr;
    for (const auto &[hash, block] : blocks_) {
        if (block->owner == nullptr && block->users.empty() &&
            (oldest == nullptr || block->last_use < oldest->last_use ||
             (block->last_use == oldest->last_use && block->id > oldest->id))) {
            oldest = block.get();
        }
    }
    return oldest;
}

}  // namespace nestling
