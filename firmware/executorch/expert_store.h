// The experts of a model: which are in memory, and the thread that reads the others.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "core/expert_cache.h"
#include "core/expert_index.h"
#include "core/expert_sequence.h"
#include "expert_recorder.h"
#include "expert_source.h"
#include "mapping.h"
#include "nestling_experts.h"
#include "system_memory.h"

namespace nestling {

// What of an expert a call holds in memory: pins on its slots.
struct ExpertHold {
    uint32_t slots[NST_MAX_EXPERT_SLICES] = {NST_NONE, NST_NONE};
    const uint8_t *high = nullptr;
    const uint8_t *low = nullptr;  // null: there is none, or its answer is to be that of 4 bits
};

enum class ExpertState : uint8_t {
    kReady,    // held, and its bytes are there
    kLoading,  // held, its bytes are under way
    kAbsent,   // not held: there is no slot for it now, or it was not to be claimed
    kFailed,   // its bytes did not come; not held
};

// Slots of memory under core/expert_cache, filled by a thread, and by calls that wait. Any number of calls (expert_call.h)
// may use it at once, each on a thread of its own. A call takes the lock, looks for its experts, lets
// those missing be read, releases the lock to compute, and gives back what it held.
class ExpertStore {
  public:
    using Lock = std::unique_lock<std::mutex>;

    ExpertStore() = default;
    ~ExpertStore();
    ExpertStore(const ExpertStore &) = delete;
    ExpertStore &operator=(const ExpertStore &) = delete;

    static void default_options(nst_expert_options *out);

    // Reads and checks the index, and takes the default options. A bundle without experts is fine.
    int open(const nst_bundle &bundle, const Mapping &mapping, const nst_hash_ops &hash,
             nst_error *err);
    bool any() const { return !layers_.empty(); }

    // Begins anew; nobody may be in a call. As nst_model_configure_experts.
    int configure(const nst_expert_options &options, nst_error *err);
    // As nst_model_load_experts.
    int load_all(nst_error *err);

    const nst_expert_options &options() const { return options_; }
    uint32_t layers() const { return static_cast<uint32_t>(layers_.size()); }
    const nst_expert_layer &layer(uint32_t layer) const { return layers_[layer]; }
    void view(nst_expert_view *out) const;
    void stats(nst_expert_stats *out);
    void reset_stats();
    ExpertRecorder &recorder() { return recorder_; }

    // ---- for a call, under the lock ----

    Lock lock() { return Lock(mutex_); }
    // Slices that an answer in full needs.
    uint32_t slices_of(uint32_t layer) const;
    // A router has spoken; see nst_expert_cache_route.
    void visit(const nst_expert_visit &visit, uint32_t tokens);
    // What the predictor `visit->probabilities` says of a later layer; `experts`, likeliest first,
    // are read when nothing else is to do.
    void expect(const nst_expert_visit &visit, std::span<const uint32_t> experts);
    // By counts of what followed: the layer that comes next, and how likely its experts are.
    uint32_t predict_next(uint32_t request, float *chances) const;
    // Whether all slices of it are in memory. Counts nothing.
    bool resident(uint32_t layer, uint32_t expert) const;
    // Looks for an expert and counts that. kAbsent where something is missing; nothing is held then.
    // With `low_bits`, the high halves are enough.
    ExpertState find(uint32_t layer, uint32_t expert, bool low_bits, ExpertHold *out);
    // The same, and has what is missing read. kAbsent: no slot can be had before others are released.
    ExpertState claim(uint32_t layer, uint32_t expert, bool low_bits, ExpertHold *out);
    // How what is held stands now; kFailed releases it, and `err` says why.
    ExpertState poll(ExpertHold *hold, nst_error *err);
    void release(ExpertHold *hold);
    // Reads what is missing of an expert when nothing else is to do.
    void read_behind(uint32_t layer, uint32_t expert);
    // Until something has come or been released; reads what calls have asked for meanwhile. False:
    // `deadline_ns` has passed (0: there is none).
    bool wait(Lock &lock, uint64_t deadline_ns);

    // ---- what calls count, under the lock ----

    nst_expert_stats counted{};

  private:
    struct Demand {
        uint32_t slot;
        uint64_t asked_ns;
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

    int read_index(const nst_bundle &bundle, const Mapping &mapping, const nst_hash_ops &hash,
                   nst_error *err);
    int check_options(const nst_expert_options &options, uint32_t *slots, nst_error *err) const;
    void stop();
    void work();
    bool next(Demand *out);
    int take_slot(uint32_t key, nst_expert_purpose purpose, uint32_t *slot);
    void fill(Lock &lock, const Demand &demand);
    bool pace(Lock &held, uint64_t done_ns);
    void fail(uint32_t slot, const nst_error &error);
    void unblock();
    void enqueue_ahead(uint32_t layer, uint32_t expert, uint32_t first_slice, uint32_t slices);
    ExpertState stand(ExpertHold *hold) const;
    uint32_t key_of(uint32_t layer, uint32_t expert, uint32_t slice) const;
    nst_expert_slice slice_of(uint32_t key, uint32_t *number) const;

    // Fixed after `open`.
    std::unique_ptr<uint8_t, FreeDeleter> index_bytes_;
    nst_expert_index index_{};
    std::vector<nst_expert_layer> layers_;
    uint64_t slice_bytes_ = 0;  // of all experts

    // Fixed between two configurations.
    nst_expert_options options_{};
    std::unique_ptr<SharedArena> slots_;
    std::unique_ptr<uint64_t[]> cache_memory_;
    std::unique_ptr<uint64_t[]> sequence_memory_;
    std::thread loader_;

    std::mutex mutex_;                 // everything below
    std::condition_variable work_;     // for the loader: something is to be read
    std::condition_variable changed_;  // for calls: something has come, or was released
    std::condition_variable pace_;     // for readers: an emulated storage has taken its time
    bool stop_ = false;
    bool blocked_ = false;  // no slot for what is ahead, until something is released
    uint32_t waiting_ = 0;  // calls in `wait`
    nst_expert_cache cache_{};
    uint32_t occupied_ = 0;  // slots that hold something
    nst_expert_sequence sequence_{};
    uint32_t last_request_ = NST_NONE;
    // Both have their memory from the start; what is ahead is bounded, the oldest goes.
    std::vector<Demand> demands_;
    std::vector<Ahead> ahead_;
    uint64_t unblocked_ns_ = 0;
    Failure failures_[kFailures];  // the latest, in turn
    size_t failed_ = 0;
    ExpertSource source_;
    ExpertRecorder recorder_;
};

}  // namespace nestling
