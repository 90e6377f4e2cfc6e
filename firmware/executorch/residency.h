// Which stages are in memory: loading, pinning, evicting, and the budget over all of it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "loaded_stage.h"
#include "nestling.h"

namespace nestling {

using StageList = std::span<const uint32_t>;

// All stages of one model. Thread-safe. A stage is absent, being loaded or ready; ready stages that
// nobody has pinned may be evicted, the least recently used first. Visits of one stage, see
// Stage::loaded_as, are in memory once.
//
// The budget is a promise: when a call returns, resident bytes are within it. What a stage will
// take is known before it is loaded, see LoadedStage::own_bytes.
class Residency {
  public:
    void open(const StageSurroundings &around, uint64_t budget_bytes);
    // Unloads everything.
    void close();

    // Loads what is missing of `stages` and pins all of them (once for each occurrence). On error
    // nothing is pinned. `step`, if set, is called without any lock after each stage that this call
    // loaded, and stops it with NST_E_CANCELLED when it returns false.
    using Step = std::function<bool(uint32_t stages_left)>;
    int acquire(StageList stages, const Step &step, nst_error *err);
    // As `acquire` for a set that takes the place of `old`, which the caller has pinned; on success
    // `old` is unpinned. When both do not fit at once, `old` makes room first; `*lost` tells
    // whether it could not be brought back after an error (then it is not pinned any more).
    int exchange(StageList old, StageList stages, bool *lost, nst_error *err);
    void unpin(StageList stages);

    // Pinned stages only: the object stays where it is until unpinned.
    LoadedStage *ready(uint32_t stage) const { return entries_[home(stage)].loaded.get(); }

    uint64_t missing_bytes(StageList stages);
    int set_budget(uint64_t budget_bytes, nst_error *err);
    int evict(uint32_t stage, nst_error *err);
    uint64_t evict_unused();
    void memory(nst_memory *out);
    // Fills loads, load_ns, resident_bytes, resident and pins.
    void stage_stats(uint32_t stage, nst_stage_stats *out);

  private:
    enum class State : uint8_t { kAbsent, kLoading, kReady };
    struct Entry {
        std::unique_ptr<LoadedStage> loaded;
        State state = State::kAbsent;
        uint32_t pins = 0;
        uint64_t last_use = 0;
        uint64_t own_bytes = 0;  // 0: never loaded
        uint64_t load_ns = 0;
        uint64_t loads = 0;
    };
    using Lock = std::unique_lock<std::mutex>;

    const Stage &stage(uint32_t index) const { return around_.tables->stages[index]; }
    // Where a stage's entry is; those of its other visits stay empty.
    uint32_t home(uint32_t index) const { return stage(index).loaded_as; }
    Entry &entry_of(uint32_t index) { return entries_[home(index)]; }
    uint64_t own_estimate(uint32_t index) const;
    bool pin_if_ready(StageList stages);
    int check_budget(StageList stages, StageList leaving, nst_error *err);
    int load_one(uint32_t index, Lock *lock, nst_error *err);
    bool make_room(uint64_t bytes);
    uint32_t least_recent() const;
    void unload(uint32_t index);
    void unpin_locked(StageList stages);
    int over_budget(uint64_t bytes, std::string_view stage_name, nst_error *err) const;

    StageSurroundings around_{};
    std::vector<Entry> entries_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::mutex load_mutex_;  // one load at a time; taken without mutex_ held
    uint64_t budget_ = 0;
    uint64_t constant_bytes_ = 0;
    uint64_t stage_bytes_ = 0;
    uint64_t peak_ = 0;
    uint64_t clock_ = 0;
    uint64_t loads_ = 0;
    uint64_t evictions_ = 0;
};

}  // namespace nestling
