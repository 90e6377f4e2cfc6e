#include "residency.h"

#include <algorithm>
#include <new>

#include "clock.h"
#include "status.h"

namespace nestling {

void Residency::open(const StageSurroundings &around, uint64_t budget_bytes) {
    around_ = around;
    entries_ = std::vector<Entry>(around.tables->stages.size());
    budget_ = budget_bytes;
}

void Residency::close() {
    const Lock lock(mutex_);
    for (uint32_t i = 0; i < entries_.size(); ++i) {
        if (entries_[i].state == State::kReady) {
            unload(i);
        }
    }
}

uint64_t Residency::own_estimate(uint32_t index) const {
    const Entry &entry = entries_[index];
    return entry.own_bytes != 0 ? entry.own_bytes
                                : LoadedStage::record_bytes(around_, stage(index));
}

// The fast path of a switch: everything is there already.
bool Residency::pin_if_ready(StageList stages) {
    for (const uint32_t index : stages) {
        if (entry_of(index).state != State::kReady) {
            return false;
        }
    }
    ++clock_;
    for (const uint32_t index : stages) {
        ++entry_of(index).pins;
        entry_of(index).last_use = clock_;
    }
    return true;
}

int Residency::over_budget(uint64_t bytes, std::string_view stage_name, nst_error *err) const {
    return failf(err, NST_E_BUDGET, {.section = {}, .stage = stage_name}, bytes, budget_,
                 "the memory budget is %llu bytes too small",
                 static_cast<unsigned long long>(bytes - budget_));
}

// Whether `stages` and all that others have pinned fit together; nothing is evicted for what cannot
// fit anyway. `leaving`: stages with one pin each that is about to be given up.
int Residency::check_budget(StageList stages, StageList leaving, nst_error *err) {
    if (budget_ == 0) {
        return NST_OK;
    }
    std::vector<uint8_t> counted(entries_.size(), 0);
    std::vector<uint32_t> released(entries_.size(), 0);
    for (const uint32_t index : leaving) {
        ++released[home(index)];
    }
    uint64_t bytes = 0;
    around_.constants->begin_sum();
    const auto count = [&](uint32_t index) {
        if (counted[index] == 0) {
            counted[index] = 1;
            bytes += around_.constants->add_to_sum(stage(index)) + own_estimate(index);
        }
    };
    for (const uint32_t index : stages) {
        count(home(index));
    }
    for (uint32_t index = 0; index < entries_.size(); ++index) {
        if (entries_[index].pins > released[index]) {
            count(index);
        }
    }
    if (bytes <= budget_) {
        return NST_OK;
    }
    return over_budget(bytes, stages.empty() ? std::string_view() : stage(stages.front()).name,
                       err);
}

uint32_t Residency::least_recent() const {
    uint32_t found = NST_NONE;
    for (uint32_t i = 0; i < entries_.size(); ++i) {
        const Entry &entry = entries_[i];
        if (entry.state == State::kReady && entry.pins == 0 &&
            (found == NST_NONE || entry.last_use < entries_[found].last_use)) {
            found = i;
        }
    }
    return found;
}

// Evicts until `bytes` more fit; false when what is pinned leaves too little.
bool Residency::make_room(uint64_t bytes) {
    while (budget_ != 0 && constant_bytes_ + stage_bytes_ + bytes > budget_) {
        const uint32_t victim = least_recent();
        if (victim == NST_NONE) {
            return false;
        }
        unload(victim);
        ++evictions_;
    }
    return true;
}

void Residency::unload(uint32_t index) {
    Entry &entry = entries_[index];
    entry.loaded.reset();
    entry.state = State::kAbsent;
    constant_bytes_ -= around_.constants->release(stage(index));
    stage_bytes_ -= entry.own_bytes;
}

void Residency::unpin_locked(StageList stages) {
    for (const uint32_t index : stages) {
        --entry_of(index).pins;
    }
}

void Residency::unpin(StageList stages) {
    const Lock lock(mutex_);
    unpin_locked(stages);
}

// Loads one absent stage. Called and returns with the lock held, and gives it up in between. The
// entry has a pin of the caller.
int Residency::load_one(uint32_t index, Lock *lock, nst_error *err) {
    Entry &entry = entries_[index];
    const uint64_t added = around_.constants->bytes_added_by(stage(index)) + own_estimate(index);
    if (!make_room(added)) {
        return over_budget(constant_bytes_ + stage_bytes_ + added, stage(index).name, err);
    }
    entry.state = State::kLoading;
    constant_bytes_ += around_.constants->retain(stage(index));
    peak_ = std::max(peak_, constant_bytes_ + stage_bytes_);
    lock->unlock();

    std::unique_ptr<LoadedStage> loaded;
    const ProgramEntry &program = around_.tables->programs[stage(index).program];
    uint64_t load_ns = 0;
    int code = NST_OK;
    nst_error reason{};
    try {
        const std::lock_guard<std::mutex> one_at_a_time(load_mutex_);
        code = around_.constants->prepare(stage(index), program, &reason);
        if (code == NST_OK) {
            const uint64_t begin = now_ns();
            code = LoadedStage::load(around_, index, &loaded, &reason);
            load_ns = now_ns() - begin;
        }
        around_.constants->settle(stage(index), program);
    } catch (const std::bad_alloc &) {
        code = failf(&reason, NST_E_NO_MEMORY, {.section = {}, .stage = stage(index).name}, 0, 0,
                     "out of memory");
    }
    if (code == NST_E_ENGINE) {
        around_.stand_ins->note_failure(index, reason);
    }

    lock->lock();
    changed_.notify_all();
    if (code != NST_OK) {
        entry.state = State::kAbsent;
        constant_bytes_ -= around_.constants->release(stage(index));
        if (err != nullptr) {
            *err = reason;
        }
        return code;
    }
    entry.own_bytes = loaded->own_bytes();
    entry.loaded = std::move(loaded);
    entry.state = State::kReady;
    entry.last_use = ++clock_;
    entry.load_ns = load_ns;
    ++entry.loads;
    ++loads_;
    stage_bytes_ += entry.own_bytes;
    if (!make_room(0)) {
        // The manifest promised less activation memory than the stage needs: the budget holds, the
        // stage goes again.
        const uint64_t bytes = constant_bytes_ + stage_bytes_;
        unload(index);
        return over_budget(bytes, stage(index).name, err);
    }
    peak_ = std::max(peak_, constant_bytes_ + stage_bytes_);
    return NST_OK;
}

int Residency::acquire(StageList stages, const Step &step, nst_error *err) {
    Lock lock(mutex_);
    if (pin_if_ready(stages)) {
        return NST_OK;
    }
    if (int code = check_budget(stages, {}, err); code != NST_OK) {
        return code;
    }
    // Pin first, so that making room for one stage cannot evict another one of the same set.
    for (const uint32_t index : stages) {
        ++entry_of(index).pins;
    }
    for (size_t i = 0; i < stages.size(); ++i) {
        const uint32_t index = home(stages[i]);
        changed_.wait(lock, [&] { return entries_[index].state != State::kLoading; });
        entries_[index].last_use = ++clock_;
        int code = NST_OK;
        if (entries_[index].state == State::kAbsent) {
            code = load_one(index, &lock, err);
            if (code == NST_OK && step) {
                lock.unlock();
                const bool go_on = step(static_cast<uint32_t>(stages.size() - i - 1));
                lock.lock();
                if (!go_on) {
                    code = failf(err, NST_E_CANCELLED, {}, 0, 0, "loading was cancelled");
                }
            }
        }
        if (code != NST_OK) {
            unpin_locked(stages);
            return code;
        }
    }
    return NST_OK;
}

int Residency::exchange(StageList old, StageList stages, bool *lost, nst_error *err) {
    *lost = false;
    bool both_fit = true;
    {
        const Lock lock(mutex_);
        if (pin_if_ready(stages)) {
            unpin_locked(old);
            return NST_OK;
        }
        both_fit = check_budget(stages, {}, nullptr) == NST_OK;
        if (!both_fit) {
            if (int code = check_budget(stages, old, err); code != NST_OK) {
                return code;
            }
            unpin_locked(old);
        }
    }
    const int code = acquire(stages, {}, err);
    if (code == NST_OK) {
        if (both_fit) {
            unpin(old);
        }
        return NST_OK;
    }
    if (!both_fit) {
        *lost = acquire(old, {}, nullptr) != NST_OK;
    }
    return code;
}

uint64_t Residency::missing_bytes(StageList stages) {
    const Lock lock(mutex_);
    uint64_t bytes = 0;
    around_.constants->begin_sum();
    // Each constant once: those of ready stages are there, the absent ones add the rest.
    for (uint32_t i = 0; i < entries_.size(); ++i) {
        if (entries_[i].state == State::kReady) {
            (void)around_.constants->add_to_sum(stage(i));
        }
    }
    std::vector<uint8_t> counted(entries_.size(), 0);
    for (const uint32_t visit : stages) {
        const uint32_t index = home(visit);
        if (entries_[index].state != State::kReady && counted[index] == 0) {
            counted[index] = 1;
            bytes += around_.constants->add_to_sum(stage(index)) + own_estimate(index);
        }
    }
    return bytes;
}

int Residency::set_budget(uint64_t budget_bytes, nst_error *err) {
    const Lock lock(mutex_);
    const uint64_t before = budget_;
    budget_ = budget_bytes;
    if (int code = check_budget({}, {}, err); code != NST_OK) {
        budget_ = before;
        return code;
    }
    (void)make_room(0);
    return NST_OK;
}

int Residency::evict(uint32_t visit, nst_error *err) {
    const Lock lock(mutex_);
    const uint32_t index = home(visit);
    const Entry &entry = entries_[index];
    if (entry.pins > 0 || entry.state == State::kLoading) {
        return failf(err, NST_E_STATE, {.section = {}, .stage = stage(index).name}, 0, entry.pins,
                     "the stage is selected by a session");
    }
    if (entry.state == State::kReady) {
        unload(index);
        ++evictions_;
    }
    return NST_OK;
}

uint64_t Residency::evict_unused() {
    const Lock lock(mutex_);
    const uint64_t before = constant_bytes_ + stage_bytes_;
    for (uint32_t index = least_recent(); index != NST_NONE; index = least_recent()) {
        unload(index);
        ++evictions_;
    }
    return before - constant_bytes_ - stage_bytes_;
}

void Residency::memory(nst_memory *out) {
    const Lock lock(mutex_);
    out->constant_bytes = constant_bytes_;
    out->stage_bytes = stage_bytes_;
    out->resident_bytes = constant_bytes_ + stage_bytes_;
    out->peak_bytes = peak_;
    out->budget_bytes = budget_;
    out->loads = loads_;
    out->evictions = evictions_;
    out->stages_resident = 0;
    out->stages_pinned = 0;
    for (const Entry &entry : entries_) {
        out->stages_resident += entry.state == State::kReady ? 1 : 0;
        out->stages_pinned += entry.pins > 0 ? 1 : 0;
    }
}

void Residency::stage_stats(uint32_t index, nst_stage_stats *out) {
    const Lock lock(mutex_);
    const Entry &entry = entries_[home(index)];
    out->loads = entry.loads;
    out->load_ns = entry.load_ns;
    out->resident = entry.state == State::kReady ? 1 : 0;
    out->resident_bytes = out->resident != 0 ? stage(index).weight_bytes + entry.own_bytes : 0;
    out->pins = entry.pins;
}

}  // namespace nestling
