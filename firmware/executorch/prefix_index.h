// Which blocks of caches hold what: found by the tokens, and by the path that computed them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace nestling {

class CachePager;

// A full block whose content follows from its key: its tokens and all before them, computed by one
// path. It lies in one conversation's memory until another one wants it too; then in shared memory.
struct PrefixBlock {
    uint64_t id;
    uint64_t parent;  // id of the block before; 0: it is the first
    uint32_t path;    // that made all tokens up to the block's end, see CachePool
    std::vector<uint32_t> tokens;
    std::vector<bool> filled;         // [part] whether its rows are there
    CachePager *owner = nullptr;      // null: it is shared
    uint32_t owner_block = 0;         // number of the block there
    uint32_t index = 0;               // in SharedBlocks
    std::vector<CachePager *> users;  // that have it mapped; empty while it has an owner
    uint64_t last_use = 0;
};

// The key is exact: a hash finds candidates, tokens are compared.
class PrefixIndex {
  public:
    PrefixBlock *find(uint64_t parent, uint32_t path, std::span<const uint32_t> tokens) const;
    // There is none of that key.
    PrefixBlock *add(uint64_t parent, uint32_t path, std::span<const uint32_t> tokens);
    void remove(PrefixBlock *block);

    // The shared block without users that was used longest ago; null: there is none. Of blocks that
    // were last used together, the deepest: those in front of it are needed to find it.
    PrefixBlock *oldest_unused() const;

  private:
    std::unordered_multimap<uint64_t, std::unique_ptr<PrefixBlock>> blocks_;  // by hash
    uint64_t last_id_ = 0;
};

}  // namespace nestling
