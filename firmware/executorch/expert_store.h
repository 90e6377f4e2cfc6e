// The experts of a model: which are in memory, and which are to come.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/expert_cache.h"
#include "core/expert_sequence.h"
#include "expert_catalog.h"
#include "expert_loader.h"
#include "expert_recorder.h"
#include "expert_slots.h"
#include "expert_source.h"
#include "mapping.h"
#include "nestling_experts.h"

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

// Any number of calls (expert_call.h) may use it at once, each on a thread of its own. A call takes
// the lock, looks for its experts, lets those missing be read, releases the lock to compute, and
// gives back what it held.
class ExpertStore {
  public:
    using Lock = ExpertLoader::Lock;

    ExpertStore() = default;
    ExpertStore(const ExpertStore &) = delete;
    ExpertStore &operator=(const ExpertStore &) = delete;

    static void default_options(nst_expert_options *out);

    // Reads and checks the index, and takes the default options. A bundle without experts is fine.
    int open(const nst_bundle &bundle, const Mapping &mapping, const nst_hash_ops &hash,
             nst_error *err);
    bool any() const { return catalog_.any(); }

    // Begins anew; nobody may be in a call. As nst_model_configure_experts.
    int configure(const nst_expert_options &options, nst_error *err);
    // As nst_model_load_experts.
    int load_all(nst_error *err);

    const nst_expert_options &options() const { return options_; }
    uint32_t layers() const { return catalog_.layers(); }
    const nst_expert_layer &layer(uint32_t layer) const { return catalog_.layer(layer); }
    void view(nst_expert_view *out) const;
    void stats(nst_expert_stats *out);
    void reset_stats();
    ExpertRecorder &recorder() { return recorder_; }

    // ---- for a call, under the lock ----

    Lock lock() { return loader_.lock(); }
    // To compute one expert, and at the end of a call: the thread reads on where that pays.
    void unlock_to_compute(Lock &held) { loader_.unlock(held, compute_ns_.mean()); }
    void leave(Lock &held) { loader_.leave(held); }
    // Slices that an answer in full needs.
    uint32_t slices_of(uint32_t layer) const;
    // A router has spoken; see nst_expert_cache_route.
    void visit(const nst_expert_visit &visit, uint32_t tokens);
    // Whether it pays to ask the predictor for a later layer and to read ahead what it says: by what
    // was missing there lately, and the measured times of reading, computing and predicting.
    bool looks_ahead(uint32_t layer);
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
    bool wait(Lock &held, uint64_t deadline_ns) { return loader_.wait(held, deadline_ns); }

    // ---- what calls count, under the lock ----

    nst_expert_stats counted{};
    void note_compute(uint64_t ns);
    void note_predict(uint64_t ns) { predict_ns_.note(static_cast<double>(ns)); }

  private:
    // What there is to say of a layer before its router speaks.
    struct Outlook {
        MovingMean missing;        // slices of a visit that were, or had to be, read
        uint32_t missing_now = 0;  // of the present visit
        MovingMean lead_ns;        // from being asked to look ahead to it until its visit
        uint64_t asked_ns = 0;     // 0: nobody has asked since its last visit
    };

    int check_options(const nst_expert_options &options, uint32_t *slots, nst_error *err) const;
    ExpertState stand(ExpertHold *hold) const;

    ExpertCatalog catalog_;  // fixed after `open`

    // Fixed between two configurations.
    nst_expert_options options_{};
    std::unique_ptr<uint64_t[]> sequence_memory_;

    // Under the loader's lock. The loader ends before what it uses.
    ExpertSlots slots_;
    nst_expert_sequence sequence_{};
    uint32_t last_request_ = NST_NONE;
    std::vector<Outlook> outlooks_;  // [layers]
    MovingMean compute_ns_;          // of an expert
    MovingMean predict_ns_;
    ExpertSource source_;
    ExpertRecorder recorder_;
    ExpertLoader loader_{catalog_, source_, slots_};
};

}  // namespace nestling
