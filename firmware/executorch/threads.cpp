#include "threads.h"

#include <cstddef>
#include <mutex>

#include "status.h"

// The wheel exports the pool but ships no header for it (its threadpool.h wants pthreadpool.h,
// which the wheel leaves out). These are the declarations of 1.5.1 that are used here.
namespace executorch::extension::threadpool {

class ThreadPool final {
  public:
    size_t get_thread_count() const;
    bool _unsafe_reset_threadpool(uint32_t new_thread_count);
};

ThreadPool *get_threadpool();

}  // namespace executorch::extension::threadpool

namespace nestling {
namespace {

namespace pool = executorch::extension::threadpool;

std::mutex claims_mutex;
uint32_t claims = 0;
uint32_t default_threads = 0;  // size of the pool before anyone changed it

// The only way that 1.5.1 offers to size the pool; safe here because no claim is held.
void resize(uint32_t threads) {
    pool::get_threadpool()->_unsafe_reset_threadpool(threads);
}

}  // namespace

ThreadClaim::~ThreadClaim() {
    if (holds_) {
        const std::lock_guard<std::mutex> lock(claims_mutex);
        --claims;
    }
}

int ThreadClaim::take(uint32_t threads, nst_error *err) {
    if (threads == 1) {
        single_ = true;
        return NST_OK;
    }
    const std::lock_guard<std::mutex> lock(claims_mutex);
    pool::ThreadPool *shared = pool::get_threadpool();
    if (shared == nullptr) {
        return failf(err, NST_E_ENGINE, {}, threads, 0, "no thread pool on this machine");
    }
    const uint32_t now = static_cast<uint32_t>(shared->get_thread_count());
    if (default_threads == 0) {
        default_threads = now;
    }
    if (claims == 0) {
        resize(threads == 0 ? default_threads : threads);
    } else if (threads != 0 && threads != now) {
        return failf(err, NST_E_STATE, {}, threads, now,
                     "another open model uses a pool of %u threads", now);
    }
    ++claims;
    holds_ = true;
    return NST_OK;
}

}  // namespace nestling
