// State that grows by rows: which rows of each cache are filled, and where the next ones go.
#pragma once

#include <cstdint>
#include <vector>

#include "core/error.h"
#include "plan.h"
#include "tables.h"

namespace nestling {

struct RowRange {
    uint32_t first = 0;
    uint32_t end = 0;
};

// One session's. A growing slot is a state slot that other slots are rows of. Rows are counted in
// tokens: row n of every cache belongs to token n. The rows that are filled are one run of rows,
// `first` to `end`; a cache that its layer's attention reads must be filled from 0.
class Growth {
  public:
    // NST_E_CORRUPT: growing slots do not have the same number of rows.
    int open(const Tables &tables, nst_error *err);

    bool any() const { return limit_ != 0; }
    uint32_t limit() const { return limit_; }  // rows of each cache
    uint32_t position() const { return position_; }
    // The next run computes the tokens from `position` on; what is filled stays.
    int seek(uint32_t position, nst_error *err);
    // Tokens from `position` on are forgotten.
    void rewind(uint32_t position);

    // Whether a run of `rows` tokens may start. NST_E_LIMIT: the caches are full; NST_E_STATE: a
    // cache lacks rows that the plan reads.
    int check(const Plan &plan, uint32_t rows, nst_error *err) const;
    // It did.
    void commit(const Plan &plan, uint32_t rows);

    // Tokens from 0 on for which all caches that the plan attends to are filled.
    uint32_t ready(const Plan &plan) const;
    // Whether everything that the plan reads row by row is there for tokens first..end-1.
    bool covers(const Plan &plan, uint32_t first, uint32_t end) const;

    // What is filled of a growing slot.
    const RowRange &rows(uint32_t slot) const { return filled_[slot]; }
    // Rows have come from elsewhere; those behind a gap are of no use.
    void extend(uint32_t slot, uint32_t first, uint32_t end);

  private:
    const Tables *tables_ = nullptr;
    std::vector<RowRange> filled_;  // [slot]
    uint32_t limit_ = 0;
    uint32_t position_ = 0;
};

}  // namespace nestling
