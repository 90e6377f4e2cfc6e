// The thread that runs the model, so that the server's thread can answer during a run.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace nestling::linux_board {

// Does one piece of work at a time. The thread starts with the first one.
class RunThread {
  public:
    // Called on the thread itself after each piece of work; tells the waiting one to look again.
    using Wake = std::function<void()>;

    explicit RunThread(Wake wake) : wake_(std::move(wake)) {}
    ~RunThread();
    RunThread(const RunThread &) = delete;
    RunThread &operator=(const RunThread &) = delete;

    // std::system_error when no thread can be had. The last work must be done.
    void start(std::function<void()> work);
    bool done() const { return done_.load(std::memory_order_acquire); }
    void wait();

  private:
    void loop();

    Wake wake_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::function<void()> work_;  // empty: none waits
    bool ending_ = false;
    std::atomic<bool> done_{true};
    std::thread thread_;
};

}  // namespace nestling::linux_board
