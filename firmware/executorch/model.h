// An opened bundle: everything that its sessions share.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "allocators.h"
#include "constants.h"
#include "mapping.h"
#include "nestling.h"
#include "plan.h"
#include "residency.h"
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
    const nestling::SharedArena &arena() const { return arena_; }
    bool single_thread() const { return claim_.single(); }

    // The plan of a named path. NST_E_NOT_FOUND, NST_E_PATH, NST_E_ARGUMENT. `*fused` (may be null)
    // tells which mode it is.
    int find_plan(uint32_t path, uint32_t mode, const nestling::Plan **out, bool *fused,
                  nst_error *err) const;

    // Runs one pinned stage on `buffers` and counts it.
    int run_stage(uint32_t stage, void *const *buffers, nst_error *err);

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

    int read_manifest(nst_error *err);
    int check_target(nst_error *err) const;

    nestling::Mapping mapping_;
    std::unique_ptr<uint32_t[]> index_;
    nst_bundle bundle_{};
    nestling::Tables tables_;
    nestling::ThreadClaim claim_;
    nestling::ConstantStore constants_;
    nestling::SharedArena arena_;
    nestling::ChunkAllocator scratch_{16 * 1024};
    std::vector<std::vector<uint8_t>> slot_orders_;
    nestling::Residency residency_;
    std::vector<nestling::Plan> chains_;  // [path]
    std::vector<nestling::Plan> fused_;   // [path]; empty plan: the path has no fused stage
    std::mutex execution_;                // one stage at a time
    std::vector<RunStats> stats_;         // [stage], under execution_
};
