// One line of execution on a model: what is selected, where its tensors are.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "cache_pager.h"
#include "growth.h"
#include "model.h"
#include "nestling.h"
#include "plan.h"
#include "run_guide.h"
#include "slot_buffers.h"

struct nst_session {
  public:
    explicit nst_session(nst_model &model);
    ~nst_session();
    nst_session(const nst_session &) = delete;
    nst_session &operator=(const nst_session &) = delete;

    // NST_E_NO_MEMORY.
    int open(nst_error *err);

    int select(uint32_t path, uint32_t mode, nst_error *err);
    int select_stages(std::span<const uint32_t> stages, nst_error *err);
    // What a run executes, in order; empty when nothing is selected.
    std::span<const uint32_t> stages() const;
    const nestling::Plan *plan() const { return plan_; }
    int bind(uint32_t slot, nst_role role, void *data, size_t bytes, nst_error *err);
    int tensor(uint32_t slot, nst_tensor *out, nst_error *err) const;
    // All tokens that the selected path takes, where it takes tokens.
    int run(nst_error *err) { return run_rows(plan_ != nullptr ? plan_->rows() : 0, err); }
    // `guide` (may be null) is told before each stage.
    int run_rows(uint32_t rows, nst_error *err, nestling::RunGuide *guide = nullptr);
    // For a guide, during a run: where a step of the plan reads a slot, null if it does not; and
    // running a step again that has run.
    void *pointer(size_t step, uint32_t slot) const;
    int repeat(size_t step, nst_error *err);
    void cancel() { cancel_.store(true, std::memory_order_relaxed); }
    void reset_state() {
        buffers_.clear_states();
        growth_.rewind(0);
    }
    nestling::Growth &growth() { return growth_; }
    const nestling::Growth &growth() const { return growth_; }
    // Growing slots' memory; and who sees to it that rows are there, null: they always are.
    uint8_t *caches() const { return buffers_.caches(); }
    void set_pager(nestling::CachePager *pager) { pager_ = pager; }
    // That a run of the selected path takes.
    uint32_t tokens() const { return plan_ != nullptr ? plan_->rows() : 0; }
    void selection(nst_selection *out) const;
    // Multiply-accumulates of all stages that have run.
    uint64_t macs() const { return macs_; }

  private:
    int adopt(const nestling::Plan &plan, uint32_t path, bool fused, nst_error *err);
    int await_caches(const nestling::PlanStep &step, nst_error *err);
    void *at(const nestling::PlanArgument &argument) const;
    int run_step(const nestling::PlanStep &step, uint32_t stage, nst_error *err);
    int run_other(const nestling::PlanStep &step, uint32_t stage, nst_error *err);

    nst_model &model_;
    nestling::SlotBuffers buffers_;
    nestling::Growth growth_;
    nestling::CachePager *pager_ = nullptr;
    int64_t *position_ = nullptr;  // the input slot that tells stages which token comes first
    // Plans of the caller's own lists: the selected one is kept while the next is built.
    nestling::Plan own_plans_[2];
    const nestling::Plan *plan_ = nullptr;
    uint32_t path_ = NST_NONE;
    bool fused_ = false;
    std::vector<void *> pointers_;    // of the stage that runs
    std::vector<uint32_t> resolved_;  // what runs for a list of the caller's own
    uint32_t exchanged_ = NST_NONE;   // slot whose buffers have changed places in this run
    uint64_t macs_ = 0;
    std::atomic<bool> cancel_{false};
    uint32_t request_ = 0;  // of the run, or of the conversation that it goes on with
    uint64_t runs_ = 0;
    uint64_t last_run_ns_ = 0;
};
