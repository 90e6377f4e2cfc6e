// Loading a path in the background.
#pragma once

#include <atomic>
#include <thread>

#include "model.h"
#include "nestling.h"

struct nst_prefetch {
  public:
    // `plan`: that of the path in this mode.
    nst_prefetch(nst_model &model, uint32_t path, uint32_t mode, const nestling::Plan &plan,
                 nst_progress progress, void *user);
    // Joins the thread.
    ~nst_prefetch();
    nst_prefetch(const nst_prefetch &) = delete;
    nst_prefetch &operator=(const nst_prefetch &) = delete;

    // Starts the thread; throws std::system_error when there is none.
    void start();
    void cancel() { cancel_.store(true, std::memory_order_relaxed); }
    bool done() const { return done_.load(std::memory_order_acquire); }
    int wait(nst_error *err);

  private:
    void work();
    int load();
    bool report(uint32_t stages_left);

    nst_model &model_;
    const uint32_t path_;
    const uint32_t mode_;
    const nestling::Plan *plan_;
    const nst_progress progress_;
    void *const user_;
    uint64_t total_bytes_ = 0;
    std::atomic<bool> cancel_{false};
    std::atomic<bool> done_{false};
    int code_ = NST_OK;  // written by the thread, read after it was joined
    nst_error error_{};
    std::thread thread_;
};
