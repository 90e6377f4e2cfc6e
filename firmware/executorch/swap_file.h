// Rows of one conversation's caches in a file.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cache_layout.h"
#include "core/error.h"
#include "growth.h"

namespace nestling {

struct SwapCounts {
    uint64_t bytes = 0;
    uint64_t transfers = 0;
};

// An image of the caches with holes: a block lies in the file as it does in memory, so neighbouring
// blocks of one cache are one transfer. The file is opened for each use alone, so that any number of
// conversations may wait; what must be in it is remembered here, with a checksum for each block of
// each cache. One thread at a time.
class SwapFile {
  public:
    // The file is made when it is first written; the destructor removes it.
    SwapFile(const CacheLayout &layout, std::string path);
    ~SwapFile();
    SwapFile(const SwapFile &) = delete;
    SwapFile &operator=(const SwapFile &) = delete;

    // Writes rows of `blocks`, ascending, from the caches at `memory`; `filled[part]`: rows that are
    // there. `*stop` (may be null) ends it early between two transfers: NST_E_CANCELLED.
    int save(const uint8_t *memory, std::span<const uint32_t> blocks,
             std::span<const RowRange> filled, const std::atomic<bool> *stop, SwapCounts *counts,
             nst_error *err);

    // Between these, `load` reads. NST_E_STATE: the file is not there.
    int open_for_loading(nst_error *err);
    void close_after_loading();
    // Reads what was saved of `blocks` in one part. NST_E_STATE: it is not what was written.
    int load(uint32_t part, std::span<const uint32_t> blocks, uint8_t *memory, SwapCounts *counts,
             nst_error *err);

  private:
    struct Saved {
        uint32_t rows = 0;
        uint32_t checksum = 0;
    };

    Saved &saved(uint32_t part, uint32_t block) { return saved_[part * layout_.blocks + block]; }
    int save_run(const uint8_t *memory, uint32_t part, uint32_t first, uint32_t end,
                 uint32_t filled, SwapCounts *counts, nst_error *err);

    const CacheLayout &layout_;
    std::string path_;
    bool made_ = false;
    int file_ = -1;
    std::vector<Saved> saved_;  // [part][block]
};

}  // namespace nestling
