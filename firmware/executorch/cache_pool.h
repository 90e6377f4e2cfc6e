// Memory for the caches of many conversations: a budget, and files for those that wait.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "cache_layout.h"
#include "cache_pager.h"
#include "growth.h"
#include "nestling_pool.h"
#include "prefix_index.h"
#include "shared_blocks.h"

namespace nestling {

// A conversation as the pool must know it to share its blocks. A path is a number that says all
// that the content of rows depends on beside the tokens.
struct CacheContent {
    std::span<const uint32_t> tokens;  // that are computed
    std::span<const uint8_t> makers;   // [token] path that computed it
    std::vector<uint32_t> keys;        // [maker] the number of the path
};

// Who may use memory when. A conversation that runs is in use, which pins its blocks; those that are
// not are swapped out when memory is wanted, least recently used first. A thread of the pool's own
// reads what is wanted, cache after cache in the order in which a run needs them, so that the first
// layers compute while the others are still read; when memory is short it also writes conversations
// that have become idle, so that taking their memory later need not wait.
//
// Memory is counted in blocks. A shared block counts once. It is kept as long as a conversation in
// memory has it, then it goes into the files of all that have it; one that nobody has stays until
// its memory is wanted.
class CachePool {
  public:
    explicit CachePool(const Tables &tables) : layout_(tables), shared_(layout_) {}
    ~CachePool();
    CachePool(const CachePool &) = delete;
    CachePool &operator=(const CachePool &) = delete;

    int open(const nst_pool_options &options, nst_error *err);

    const CacheLayout &layout() const { return layout_; }
    // For a conversation whose caches lie at `memory`; null for a bundle whose caches do not grow.
    std::unique_ptr<CachePager> make_pager(uint8_t *memory);
    bool empty();
    void add(CachePager *pager);
    void remove(CachePager *pager);

    // The conversation's own thread is about to run it; rows may still be on their way. After an
    // error it is as before, unless rows are lost: then `*forgotten`, and it holds none.
    int begin(CachePager *pager, bool *forgotten, nst_error *err);
    // It has run. NST_E_STATE, and `*forgotten`: the rows that were to be read are lost.
    int end(CachePager *pager, const CacheContent &content, const Growth &growth, bool *forgotten,
            nst_error *err);
    int own(CachePager *pager, uint32_t first_block, uint32_t end_block, nst_error *err);
    int wait_for(CachePager *pager, uint32_t part, nst_error *err);
    // Takes over blocks of others for tokens from `from` on that `path` would compute, at most up to
    // `tokens.size()`; tells `growth`, and returns how far rows are there now. Blocks are whole: when
    // there are any, rows before `from` in the first one are the path's, too.
    uint32_t adopt(CachePager *pager, uint32_t path, std::span<const uint32_t> tokens,
                   uint32_t from, Growth *growth);

    // While it is not in use. Forget rows from `rows` on.
    void truncate(CachePager *pager, uint32_t rows);
    int swap_out(CachePager *pager, nst_error *err);
    int swap_in(CachePager *pager, nst_error *err);  // starts; does not wait

    void state(nst_pool_state *out);
    void cache(CachePager *pager, nst_pool_cache *out);

  private:
    using Lock = std::unique_lock<std::mutex>;
    using Where = CacheBlock::Where;
    using Transfer = CachePager::Transfer;

    // Counts `blocks` more as used, once there is room. Lets go of the lock in between.
    int reserve(Lock &lock, CachePager *pager, uint32_t blocks, nst_error *err);
    CachePager *find_victim(const CachePager *except, bool *waiting);
    int write_out(Lock &lock, CachePager *pager, nst_error *err);
    int start_loading(Lock &lock, CachePager *pager, nst_error *err);
    void await(Lock &lock, CachePager *pager, bool loading_too);

    bool has_resident_user(const PrefixBlock &prefix, const CachePager *except) const;
    bool holds_memory(const CachePager &pager) const;
    bool short_of_memory() const { return away_ != 0 || used_ * 4 > budget_ * 3; }
    void leave_memory(CachePager *pager);
    void forget(CachePager *pager);
    void drop(CachePager *pager, uint32_t block);
    void release(PrefixBlock *prefix, CachePager *pager);
    void publish(CachePager *pager, const CacheContent &content);
    bool share(PrefixBlock *prefix);
    bool attach(CachePager *pager, uint32_t block, PrefixBlock *prefix);
    bool may_replace(uint32_t block, const PrefixBlock &prefix, const Growth &growth) const;
    std::vector<bool> filled_parts(const CachePager &pager, uint32_t block) const;

    void work();
    void load(Lock &lock, CachePager *pager);
    CachePager *find_unsaved();
    void save_behind(Lock &lock, CachePager *pager);

    CacheLayout layout_;
    SharedBlocks shared_;
    std::string folder_;
    bool share_ = true;
    uint64_t budget_ = 0;  // blocks

    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<CachePager *> pagers_;
    PrefixIndex prefixes_;
    std::deque<CachePager *> reads_;
    uint64_t made_ = 0;   // pagers so far
    uint64_t clock_ = 0;  // of uses
    uint64_t used_ = 0;   // blocks in memory
    uint64_t away_ = 0;   // blocks that are in files alone
    nst_pool_state counts_{};
    bool closing_ = false;
    std::thread thread_;
};

}  // namespace nestling
