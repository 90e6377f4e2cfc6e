// One line of execution on a model: what is selected, where its tensors are.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "model.h"
#include "nestling.h"
#include "plan.h"
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
    int bind(uint32_t slot, nst_role role, void *data, size_t bytes, nst_error *err);
    int tensor(uint32_t slot, nst_tensor *out, nst_error *err) const;
    int run(nst_error *err);
    void cancel() { cancel_.store(true, std::memory_order_relaxed); }
    void reset_state() { buffers_.clear_states(); }
    void selection(nst_selection *out) const;

  private:
    int adopt(const nestling::Plan &plan, uint32_t path, bool fused, nst_error *err);

    nst_model &model_;
    nestling::SlotBuffers buffers_;
    // Plans of the caller's own lists: the selected one is kept while the next is built.
    nestling::Plan own_plans_[2];
    const nestling::Plan *plan_ = nullptr;
    uint32_t path_ = NST_NONE;
    bool fused_ = false;
    std::vector<void *> pointers_;  // of the stage that runs
    std::atomic<bool> cancel_{false};
    uint64_t runs_ = 0;
    uint64_t last_run_ns_ = 0;
};
