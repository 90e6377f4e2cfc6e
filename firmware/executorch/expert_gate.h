// Whether a read is worth another thread: by times that were measured, not by options.
#pragma once

#include <algorithm>
#include <cstdint>

namespace nestling {

// A mean in which newer values count more; an outlier moves it by a bounded step.
class MovingMean {
  public:
    void note(double value) {
        constexpr double kNewest = 1.0 / 16.0;
        constexpr double kMostGrowth = 4.0;
        if (!known_) {
            mean_ = value;
            known_ = true;
            return;
        }
        mean_ += kNewest * (std::min(value, kMostGrowth * mean_ + 1.0) - mean_);
    }
    bool known() const { return known_; }
    double mean() const { return mean_; }

  private:
    double mean_ = 0.0;
    bool known_ = false;
};

// Asking a thread to read costs the asker time, and the thread takes a while to wake up. Where reads
// are short, or the asker has little else to do, it does better to read when it needs the bytes.
// Not thread-safe.
class ExpertGate {
  public:
    // Nanoseconds: of a read; of asking the thread; until it then began.
    void note_read(uint64_t ns) { read_ns_.note(static_cast<double>(ns)); }
    void note_ask(uint64_t ns) { ask_ns_.note(static_cast<double>(ns)); }
    void note_wake(uint64_t ns) { wake_ns_.note(static_cast<double>(ns)); }
    double wake_ns() const { return wake_ns_.mean(); }

    // Whether it saves time to have about `reads` slices read by the thread while the asker is busy
    // with something else for `lead_ns`, if that costs `cost_ns` beyond asking. Yes while that is not
    // known; and now and then, so that it comes to be known.
    bool pays(double reads, double lead_ns, double cost_ns) {
        constexpr uint32_t kTryAgain = 128;
        if (!read_ns_.known() || !wake_ns_.known()) {
            return true;
        }
        const double saved = std::min(reads * read_ns_.mean(), lead_ns - wake_ns_.mean());
        return saved > ask_ns_.mean() + cost_ns || ++refused_ % kTryAgain == 0;
    }

  private:
    MovingMean read_ns_;
    MovingMean ask_ns_;
    MovingMean wake_ns_;
    uint32_t refused_ = 0;
};

}  // namespace nestling
