// Where the cache rows of one conversation of a pool are: in memory, shared, or in a file.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cache_layout.h"
#include "growth.h"
#include "prefix_index.h"
#include "shared_blocks.h"
#include "swap_file.h"

namespace nestling {

class CachePool;

// What a pager knows of one block.
struct CacheBlock {
    enum class Where : uint8_t {
        kNowhere,  // nobody has written it: no memory is counted
        kOwn,      // in the conversation's own memory
        kShared,   // mapped from the shared memory of the pool
        kAway      // in the swap file alone
    };
    Where where = Where::kNowhere;
    bool saved = false;             // the swap file has what it holds
    PrefixBlock *prefix = nullptr;  // by which others find it; never null when shared
};

// The table, and what is done to memory. Who decides, and when, is the pool, which also says whose
// turn it is: see there for which members need its lock.
class CachePager {
  public:
    // What is going on with the rows apart from the conversation's own thread.
    enum class Transfer : uint8_t { kNone, kSaving, kLoading };

    CachePager(CachePool &pool, uint8_t *memory, std::string swap_path);
    ~CachePager();
    CachePager(const CachePager &) = delete;
    CachePager &operator=(const CachePager &) = delete;

    CachePool &pool() { return pool_; }

    // For the session that runs. Before a run that writes rows first..end-1: there is memory of its
    // own for them. NST_E_BUDGET; NST_E_STATE.
    int make_room(uint32_t first, uint32_t end, nst_error *err);
    // Whether rows are still being read; then, before a stage reads or writes a cache: waits for
    // the rows of that cache. NST_E_STATE: they are lost.
    bool loading() const { return ready_.load(std::memory_order_acquire) < layout_.parts.size(); }
    int wait_for(uint32_t slot, nst_error *err);

  private:
    friend class CachePool;

    uint32_t count(CacheBlock::Where where) const;
    // Memory of the conversation's own in the place of a shared block, with the content of the shared
    // block `content`, or with zeros: NST_NONE. False: the system has no memory.
    bool detach(uint32_t block, uint32_t content, const SharedBlocks &shared);
    // Maps a shared block over whatever is there.
    bool attach(uint32_t block, const SharedBlocks &shared, uint32_t index);
    // Gives the pages of blocks of its own back to the system.
    void discard(uint32_t first, uint32_t end);

    uint8_t *at(uint32_t block, uint32_t part) const {
        return memory_ + layout_.parts[part].offset + block * layout_.parts[part].block_bytes;
    }

    CachePool &pool_;
    const CacheLayout &layout_;
    uint8_t *memory_;  // of all parts
    SwapFile file_;

    // Under the pool's lock.
    std::vector<CacheBlock> blocks_;
    std::vector<RowRange> rows_;  // [part] that are there, as of the last use
    bool in_use_ = false;         // by the conversation's own thread
    bool resident_ = true;        // no block is away, or they are being read
    bool behind_ = false;         // has been used since it was last saved behind its back
    Transfer transfer_ = Transfer::kNone;
    uint64_t last_use_ = 0;
    int lost_ = 0;  // why rows could not be read: a code, with lost_error_
    nst_error lost_error_{};
    std::vector<uint32_t> to_load_;  // blocks, while it loads

    std::atomic<uint32_t> ready_;      // parts whose rows are there
    std::atomic<bool> wanted_{false};  // somebody waits for a transfer to end
    uint32_t writable_first_ = 0;      // blocks that make_room has seen to in this use
    uint32_t writable_end_ = 0;
};

}  // namespace nestling
