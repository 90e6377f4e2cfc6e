// Reads slices of experts into their slots: a thread, and calls that have nothing else to do.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "expert_catalog.h"
#include "expert_gate.h"
#include "expert_slots.h"
#include "expert_source.h"

namespace nestling {

// Everything but `start` and `stop` is under its lock, which also guards the slots.
class ExpertLoader {
  public:
    using Lock = std::unique_lock<std::mutex>;

    struct Counts {
        uint64_t loads = 0;
        uint64_t loaded_bytes = 0;
        uint64_t failed_loads = 0;
        uint64_t load_ns = 0;
    };

    // All three outlive it.
    ExpertLoader(const ExpertCatalog &catalog, ExpertSource &source, ExpertSlots &slots)
        : catalog_(catalog), source_(source), slots_(slots) {}
    ~ExpertLoader() { stop(); }
    ExpertLoader(const ExpertLoader &) = delete;
    ExpertLoader &operator=(const ExpertLoader &) = delete;

    // Begins with nothing to read; nobody may use it meanwhile.
    void start();
    void stop();

    Lock lock() { return Lock(mutex_); }
    // Lets go of the lock, and has the thread read if that is better than reading when it is needed.
    // `lead_ns`: for how long the caller is busy now, about.
    void unlock(Lock &held, double lead_ns);
    // The same where the caller will not come back for what it asked for.
    void leave(Lock &held);

    // Claims a slot for a slice that a call needs; as nst_expert_cache_claim.
    int demand(uint32_t key, uint32_t *slot);
    // A slice that is to be read when nothing else is to do; the oldest of too many are forgotten.
    void read_ahead(uint32_t key);
    // What is to be read ahead of keys from `first` on, to be read no more.
    void forget(uint32_t first, uint32_t count);
    // A slot may have become free.
    void note_release();
    // Until something has come or been released; reads what was demanded meanwhile. False:
    // `deadline_ns` has passed (0: there is none).
    bool wait(Lock &held, uint64_t deadline_ns);

    // Why the bytes of a slot did not come; null where that is forgotten.
    const nst_error *failure(uint32_t slot) const;

    ExpertGate &gate() { return gate_; }
    const Counts &counts() const { return counts_; }
    void reset_counts() { counts_ = {}; }

  private:
    struct Demand {
        uint32_t slot;
        uint64_t asked_ns;  // of the storage; 0: when somebody comes to read it
    };
    struct Ahead {
        uint32_t key;
        uint64_t asked_ns;
    };
    struct Failure {
        uint32_t slot = NST_NONE;
        nst_error error{};
    };
    static constexpr size_t kFailures = 16;

    void work();
    bool something_to_do() const { return !demands_.empty() || (!ahead_.empty() && !blocked_); }
    void unlock_and_wake(Lock &held);
    bool next(Demand *out);
    Demand first_demand();
    void fill(Lock &held, const Demand &demand);
    bool pace(Lock &held, uint64_t done_ns);
    void fail(uint32_t slot, const nst_error &error);
    void unblock();
    void note_change();

    const ExpertCatalog &catalog_;
    ExpertSource &source_;
    ExpertSlots &slots_;
    std::thread thread_;

    std::mutex mutex_;                 // everything below
    std::condition_variable work_;     // for the thread: something is to be read
    std::condition_variable changed_;  // for calls: something has come, or was released
    std::condition_variable pace_;     // for readers: an emulated storage has taken its time
    bool stop_ = false;
    bool idle_ = false;      // the thread waits for work, and has not been asked
    uint64_t woken_ns_ = 0;  // when it was asked; 0: not, or it has begun
    bool blocked_ = false;   // no slot for what is ahead, until something is released
    uint32_t waiting_ = 0;   // calls that sleep in `wait`
    uint64_t changes_ = 0;   // that `wait` waits for
    // Both have their memory from the start.
    std::vector<Demand> demands_;
    std::vector<Ahead> ahead_;
    uint64_t unblocked_ns_ = 0;
    Failure failures_[kFailures];  // the latest, in turn
    size_t failed_ = 0;
    std::atomic<uint64_t> ask_ns_{0};  // that waking the thread took last; 0: the gate knows
    ExpertGate gate_;
    Counts counts_;
};

}  // namespace nestling
