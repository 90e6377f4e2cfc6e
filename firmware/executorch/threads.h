// Who may use how many threads: ExecuTorch's pool belongs to the process, not to a model.
#pragma once

#include <executorch/extension/threadpool/threadpool_guard.h>

#include <cstdint>
#include <optional>

#include "core/error.h"

namespace nestling {

// A model's claim on the pool. Packed operators keep a pointer to it, so it must not be replaced
// while any model has one.
class ThreadClaim {
  public:
    ThreadClaim() = default;
    ~ThreadClaim();
    ThreadClaim(const ThreadClaim &) = delete;
    ThreadClaim &operator=(const ThreadClaim &) = delete;

    // `threads`: 0 the pool as it is (all processors at first), 1 no pool at all, n a pool of n.
    // NST_E_STATE when another model holds a pool of another size.
    int take(uint32_t threads, nst_error *err);

    bool single() const { return single_; }

  private:
    bool single_ = false;
    bool holds_ = false;
};

// While one lives, loads and runs of this thread stay on it when `single`.
class SingleThread {
  public:
    explicit SingleThread(bool single) {
        if (single) {
            guard_.emplace();
        }
    }

  private:
    std::optional<executorch::extension::threadpool::NoThreadPoolGuard> guard_;
};

}  // namespace nestling
