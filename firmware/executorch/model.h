// An opened bundle: everything that its sessions share.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "allocators.h"
#include "constants.h"
#include "expert_store.h"
#include "mapping.h"
#include "nestling.h"
#include "plan.h"
#include "residency.h"
#include "stand_ins.h"
#include "tables.h"
#include "threads.h"

// The C API's opaque type is the C++ object itself.
struct nst_model {
  public:
    nst_model() = default;
    ~nst_model();
    nst_model(const nst_model &) = delete;
    nst_model &operator=(const nst_model &) = delete;

    // `mapping()` shows the bundle already.
    int open(const nst_model_options &options, nst_error *err);

    nestling::Mapping &mapping() { return mapping_; }
    const nst_bundle &bundle() const { return bundle_; }
    const nestling::Tables &tables() const { return tables_; }
    nestling::Residency &residency() { return residency_; }
    nestling::StandIns &stand_ins() { return stand_ins_; }
    nestling::ExpertStore &experts() { return experts_; }
    const nestling::SharedArena &arena() const { return arena_; }
    bool single_thread() const { return claim_.single(); }

    // The plan of a named path, which stays where it is while the model is open. NST_E_NOT_FOUND,
    // NST_E_PATH, NST_E_ARGUMENT, NST_E_TARGET. `*fused` (may be null) tells which mode it is.
    int find_plan(uint32_t path, uint32_t mode, const nestling::Plan **out, bool *fused,
                  nst_error *err);

    // After the stages of `tried`, a plan of this path, could not be loaded: whether find_plan now
    // gives another one, in which stages stand in for those that failed.
    bool plan_again(uint32_t path, uint32_t mode, const nestling::Plan *tried);

    // Runs one pinned stage on `buffers` and counts it. `request`: a number that the stages of one run,
    // or of one conversation, share; see new_request.
    int run_stage(uint32_t stage, uint32_t request, void *const *buffers, nst_error *err);
    uint32_t new_request() { return requests_.fetch_add(1, std::memory_order_relaxed); }

    // As nst_model_configure_experts; waits for the stage that runs.
    int configure_experts(const nst_expert_options &options, nst_error *err);

    void run_stats(uint32_t stage, nst_stage_stats *out);
    void reset_run_stats();

    // Sessions and prefetches that are alive.
    std::atomic<uint32_t> users{0};

  private:
    struct RunStats {
        uint64_t calls = 0;
        uint64_t total_ns = 0;
        uint64_t min_ns = 0;
        uint64_t last_ns = 0;
    };

    // Both ways to run a named path here. Plans that were replaced are kept: sessions use them.
    struct PathPlans {
        const nestling::Plan *chain = nullptr;  // null: some stage of it cannot run here
        const nestling::Plan *fused = nullptr;  // null: there is none
        bool prefer_fused = false;
        std::vector<uint32_t> chain_stages;
        std::vector<uint32_t> fused_stages;
    };

    int read_manifest(nst_error *err);
    void plan_path(uint32_t path);
    const nestling::Plan *make_plan(const std::vector<uint32_t> &stages);

    nestling::Mapping mapping_;
    std::unique_ptr<uint32_t[]> index_;
    nst_bundle bundle_{};
    nestling::Tables tables_;
    nestling::ThreadClaim claim_;
    nestling::ConstantStore constants_;
    nestling::SharedArena arena_;
    nestling::ChunkAllocator scratch_{16 * 1024};
    std::vector<nestling::MemoryOrder> slot_orders_;
    nestling::StandIns stand_ins_;
    nestling::Residency residency_;
    nestling::ExpertStore experts_;
    std::atomic<uint32_t> requests_{0};
    std::mutex planning_;
    std::vector<PathPlans> path_plans_;                   // [path], under planning_
    std::vector<std::unique_ptr<nestling::Plan>> plans_;  // all that were ever made
    std::mutex execution_;                                // one stage at a time
    std::vector<RunStats> stats_;                         // [stage], under execution_
};
