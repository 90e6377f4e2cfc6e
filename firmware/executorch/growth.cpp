#include "growth.h"

#include <algorithm>

#include "status.h"

namespace nestling {

int Growth::open(const Tables &tables, nst_error *err) {
    tables_ = &tables;
    filled_.resize(tables.slots.size());
    for (const Slot &slot : tables.slots) {
        if (!slot.grows) {
            continue;
        }
        const auto rows = static_cast<uint32_t>(slot.shape[0]);
        if (limit_ != 0 && rows != limit_) {
            return failf(err, NST_E_CORRUPT, {.section = "slots", .stage = {}}, limit_, rows,
                         "the slot %.80s has another number of rows", slot.name.c_str());
        }
        limit_ = rows;
    }
    return NST_OK;
}

int Growth::seek(uint32_t position, nst_error *err) {
    uint32_t most = 0;
    for (const RowRange &range : filled_) {
        most = std::max(most, range.end);
    }
    if (position > most) {
        return failf(err, NST_E_ARGUMENT, {}, most, position,
                     "the session holds fewer tokens than that");
    }
    position_ = position;
    return NST_OK;
}

void Growth::rewind(uint32_t position) {
    for (RowRange &range : filled_) {
        range.end = std::min(range.end, position);
        range.first = std::min(range.first, range.end);
    }
    position_ = std::min(position_, position);
}

int Growth::check(const Plan &plan, uint32_t rows, nst_error *err) const {
    if (plan.rows() == 0) {
        return NST_OK;
    }
    if (rows == 0 || rows > plan.rows()) {
        return failf(err, NST_E_ARGUMENT, {}, plan.rows(), rows,
                     "the selected path takes another number of tokens");
    }
    if (plan.rows() > limit_ - position_) {
        return failf(err, NST_E_LIMIT, {}, limit_, uint64_t{position_} + plan.rows(),
                     "the context is full");
    }
    for (const StateUse &use : plan.states()) {
        const RowRange &range = filled_[use.slot];
        const uint32_t end = use.by_row ? position_ + rows : position_;
        const uint32_t first = use.by_row ? position_ : 0;
        if (end > first && (range.first > first || range.end < end)) {
            return failf(err, NST_E_STATE, {}, end, range.end,
                         "the cache %.80s lacks rows that the path reads",
                         tables_->slots[use.slot].name.c_str());
        }
    }
    return NST_OK;
}

void Growth::commit(const Plan &plan, uint32_t rows) {
    if (plan.rows() == 0) {
        return;
    }
    const uint32_t end = position_ + rows;
    for (const uint32_t slot : plan.appended()) {
        RowRange &range = filled_[slot];
        if (position_ > range.end || position_ < range.first) {
            range = {position_, end};  // rows before a gap, or behind one, are of no use
        } else {
            range.end = std::max(range.end, end);
        }
    }
    position_ = end;
}

void Growth::extend(uint32_t slot, uint32_t first, uint32_t end) {
    RowRange &range = filled_[slot];
    if (range.first <= first && first <= range.end) {
        range.end = std::max(range.end, end);
    } else if (first == 0) {
        range = {0, range.first <= end ? std::max(range.end, end) : end};
    }
}

uint32_t Growth::ready(const Plan &plan) const {
    uint32_t rows = UINT32_MAX;
    for (const StateUse &use : plan.states()) {
        if (!use.by_row) {
            const RowRange &range = filled_[use.slot];
            rows = std::min(rows, range.first == 0 ? range.end : 0);
        }
    }
    return rows;
}

bool Growth::covers(const Plan &plan, uint32_t first, uint32_t end) const {
    return std::all_of(plan.states().begin(), plan.states().end(), [&](const StateUse &use) {
        const RowRange &range = filled_[use.slot];
        return !use.by_row || (range.first <= first && range.end >= end);
    });
}

}  // namespace nestling
