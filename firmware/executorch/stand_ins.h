// Which stage runs when one is asked for: targets that are not here, and stages that do not load.
#pragma once

#include <deque>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "backends.h"
#include "nestling.h"
#include "tables.h"

namespace nestling {

// How far a stage may be replaced.
enum class Choice : uint8_t {
    kByOrder,  // by the one on the best target of the device: paths that the bundle names
    kAsAsked,  // only where it cannot run: lists of the caller's own
};

// Decides for every stage which of those that stand in for each other runs: the first in the order
// of targets whose target is here and which did not fail to load. Thread-safe after `open`.
class StandIns {
  public:
    struct Target {
        std::string name;
        TargetState state;
        uint32_t stages = 0;
        uint32_t rank = NST_NONE;  // in the order of the device; NST_NONE: not wanted
    };
    struct Fallback {
        uint32_t stage;
        uint32_t replacement;
        std::string reason;
    };

    // `order`: targets, best first, separated by commas; null: as the bundle has them. Those that
    // are not in it are not used. NST_E_TARGET: no target of the bundle runs here.
    int open(const Tables &tables, const char *order, nst_log log, void *log_user, nst_error *err);

    const std::vector<Target> &targets() const { return targets_; }
    const TargetState &state_of(const Stage &stage) const { return targets_[stage.target].state; }

    // The stage on a target that does the same, or NST_NONE. `target` is in range.
    uint32_t on(uint32_t stage, uint32_t target) const {
        return tables_->stand_ins.empty() ? stage
                                          : tables_->stand_ins[stage * targets_.size() + target];
    }
    bool usable(uint32_t stage) const;

    // What runs for `stages`, appended to `out`. NST_E_TARGET: one of them cannot run here, names
    // it. With `note`, what was replaced is remembered.
    int resolve(std::span<const uint32_t> stages, Choice choice, bool note,
                std::vector<uint32_t> *out, nst_error *err);
    // Best rank among the targets of `stages`.
    uint32_t best_rank(std::span<const uint32_t> stages) const;

    // A stage did not load. Remembered only where another one can stand in for it.
    void note_failure(uint32_t stage, const nst_error &error);

    // What was replaced so far; entries stay where they are.
    uint32_t fallback_count() const;
    bool fallback(uint32_t index, nst_fallback *out) const;

  private:
    bool usable_locked(uint32_t stage) const;
    void remember(uint32_t stage, uint32_t replacement);
    void say(const std::string &line) const;

    const Tables *tables_ = nullptr;
    std::vector<Target> targets_;
    std::vector<uint32_t> order_;  // targets that are wanted, best first
    bool simple_ = true;           // one target, which runs: nothing can be replaced
    nst_log log_ = nullptr;
    void *log_user_ = nullptr;
    mutable std::mutex mutex_;
    std::vector<std::string> failures_;  // [stage] why it did not load; empty: it may
    std::deque<Fallback> fallbacks_;
};

}  // namespace nestling
