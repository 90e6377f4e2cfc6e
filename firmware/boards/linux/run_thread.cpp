#include "run_thread.h"

#include <pthread.h>

#include <csignal>
#include <utility>

namespace nestling::linux_board {

RunThread::~RunThread() {
    if (thread_.joinable()) {
        {
            const std::lock_guard lock(mutex_);
            ending_ = true;
        }
        changed_.notify_all();
        thread_.join();
    }
}

void RunThread::start(std::function<void()> work) {
    if (!thread_.joinable()) {
        // Signals are for the threads of the process that made this one.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before);
        thread_ = std::thread([this] { loop(); });
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    done_.store(false, std::memory_order_relaxed);
    {
        const std::lock_guard lock(mutex_);
        work_ = std::move(work);
    }
    changed_.notify_all();
}

void RunThread::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done(); });
}

void RunThread::loop() {
    std::unique_lock lock(mutex_);
    while (true) {
        changed_.wait(lock, [this] { return ending_ || work_; });
        if (!work_) {
            return;
        }
        const std::function<void()> work = std::exchange(work_, nullptr);
        lock.unlock();
        work();
        lock.lock();
        done_.store(true, std::memory_order_release);
        changed_.notify_all();
        if (wake_) {
            wake_();
        }
    }
}

}  // namespace nestling::linux_board
