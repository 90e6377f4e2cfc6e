#include "expert_loader.h"

#include <algorithm>

#include "clock.h"
#include "status.h"

namespace nestling {
namespace {

constexpr size_t kMostAhead = 256;  // slices that wait to be read ahead
// How much later than asked for a thread wakes up, about: emulated storages end their reads on time.
constexpr uint64_t kLateWakeNs = 100'000;
// Longest that a call polls for what another thread reads before it sleeps.
constexpr uint64_t kMostPollNs = 100'000;

}  // namespace

void ExpertLoader::start() {
    demands_.clear();
    ahead_.clear();
    demands_.reserve(slots_.shape().slots);
    ahead_.reserve(kMostAhead);
    blocked_ = false;
    idle_ = false;
    woken_ns_ = 0;
    stop_ = false;
    gate_ = {};
    counts_ = {};
    thread_ = std::thread([this] { work(); });
}

void ExpertLoader::stop() {
    if (!thread_.joinable()) {
        return;
    }
    {
        const std::lock_guard<std::mutex> held(mutex_);
        stop_ = true;
    }
    work_.notify_all();
    pace_.notify_all();
    thread_.join();
}

// ---- the thread ----

void ExpertLoader::work() {
    Lock held(mutex_);
    while (true) {
        while (!stop_ && !something_to_do()) {
            idle_ = true;
            work_.wait(held);
            if (woken_ns_ != 0) {
                gate_.note_wake(now_ns() - woken_ns_);
                woken_ns_ = 0;
            }
        }
        idle_ = false;
        if (stop_) {
            return;
        }
        Demand demand;
        if (next(&demand)) {
            fill(held, demand);
        }
    }
}

ExpertLoader::Demand ExpertLoader::first_demand() {
    const Demand demand = demands_.front();
    demands_.erase(demands_.begin());
    return demand;
}

bool ExpertLoader::next(Demand *out) {
    if (!demands_.empty()) {
        *out = first_demand();
        return true;
    }
    const Ahead wanted = ahead_.front();
    const int code = slots_.take(wanted.key, NST_EXPERT_PREFETCH, &out->slot);
    if (code == NST_E_BUDGET) {
        blocked_ = true;
        return false;
    }
    ahead_.erase(ahead_.begin());
    out->asked_ns = std::max(wanted.asked_ns, unblocked_ns_);
    return code == NST_OK;
}

void ExpertLoader::fill(Lock &held, const Demand &demand) {
    const ExpertKey place = slots_.place_of(slots_.cache().slots[demand.slot].key);
    const nst_expert_slice slice = catalog_.slice(place.layer, place.expert, place.slice);
    uint8_t *to = slots_.bytes(demand.slot);
    nst_error error{};
    held.unlock();
    const uint64_t begin = now_ns();
    const int code = source_.read(slice, place.slice, to, &error);
    held.lock();
    const uint64_t asked_ns = demand.asked_ns != 0 ? demand.asked_ns : begin;
    if (!pace(held, source_.done_ns(asked_ns, slice.size))) {
        return;
    }
    const uint64_t taken_ns = now_ns() - begin;
    counts_.load_ns += taken_ns;
    if (code == NST_OK) {
        ++counts_.loads;
        counts_.loaded_bytes += slice.size;
        gate_.note_read(taken_ns);
        slots_.ready(demand.slot);
    } else {
        ++counts_.failed_loads;
        fail(demand.slot, error);
        slots_.drop(demand.slot);
    }
    note_change();
}

// Until an emulated storage has taken its time. False: the loader ends.
bool ExpertLoader::pace(Lock &held, uint64_t done_ns) {
    if (done_ns <= now_ns()) {
        return true;
    }
    if (done_ns > now_ns() + kLateWakeNs) {
        const std::chrono::nanoseconds until(done_ns - kLateWakeNs);
        if (pace_.wait_until(held, std::chrono::steady_clock::time_point(until),
                             [this] { return stop_; })) {
            return false;
        }
    }
    held.unlock();
    while (now_ns() < done_ns) {
        std::this_thread::yield();
    }
    held.lock();
    return true;
}

void ExpertLoader::fail(uint32_t slot, const nst_error &error) {
    const ExpertKey place = slots_.place_of(slots_.cache().slots[slot].key);
    Failure &failure = failures_[failed_++ % kFailures];
    failure.slot = slot;
    failf(&failure.error, error.code, {.section = kExpertSliceSections[place.slice], .stage = {}},
          error.expected, error.actual, "expert %u of layer %u: %s", place.expert, place.layer,
          error.message);
}

const nst_error *ExpertLoader::failure(uint32_t slot) const {
    for (size_t back = 1; back <= std::min(failed_, kFailures); ++back) {
        const Failure &failure = failures_[(failed_ - back) % kFailures];
        if (failure.slot == slot) {
            return &failure.error;
        }
    }
    return nullptr;
}

// ---- those who ask ----

void ExpertLoader::unlock(Lock &held, double lead_ns) {
    if (const uint64_t asked_ns = ask_ns_.exchange(0, std::memory_order_relaxed); asked_ns != 0) {
        gate_.note_ask(asked_ns);
    }
    const auto reads = static_cast<double>(demands_.size());
    if ((!ahead_.empty() && !blocked_) ||
        (!demands_.empty() && idle_ && gate_.pays(reads, lead_ns, 0.0))) {
        unlock_and_wake(held);
        return;
    }
    held.unlock();
}

void ExpertLoader::leave(Lock &held) {
    unlock_and_wake(held);
}

// After the lock is free: a thread that wakes up to a lock that is held goes to sleep again.
void ExpertLoader::unlock_and_wake(Lock &held) {
    const bool wake = idle_ && something_to_do();
    const uint64_t begin = wake ? now_ns() : 0;
    if (wake) {
        idle_ = false;
        woken_ns_ = begin;
        for (Demand &demand : demands_) {
            demand.asked_ns = demand.asked_ns != 0 ? demand.asked_ns : begin;
        }
    }
    held.unlock();
    if (wake) {
        work_.notify_one();
        ask_ns_.store(now_ns() - begin, std::memory_order_relaxed);
    }
}

int ExpertLoader::demand(uint32_t key, uint32_t *slot) {
    const int code = slots_.take(key, NST_EXPERT_DEMAND, slot);
    if (code == NST_OK) {
        demands_.push_back({*slot, 0});
    }
    return code;
}

void ExpertLoader::read_ahead(uint32_t key) {
    if (std::ranges::any_of(ahead_, [key](const Ahead &ahead) { return ahead.key == key; })) {
        return;
    }
    if (ahead_.size() == kMostAhead) {
        ahead_.erase(ahead_.begin());
    }
    ahead_.push_back({key, now_ns()});
    unblock();
}

void ExpertLoader::forget(uint32_t first, uint32_t count) {
    std::erase_if(ahead_, [&](const Ahead &ahead) { return ahead.key - first < count; });
}

void ExpertLoader::note_release() {
    unblock();
    note_change();
}

void ExpertLoader::unblock() {
    if (blocked_) {
        blocked_ = false;
        unblocked_ns_ = now_ns();
    }
}

void ExpertLoader::note_change() {
    ++changes_;
    if (waiting_ != 0) {
        changed_.notify_all();
    }
}

bool ExpertLoader::wait(Lock &held, uint64_t deadline_ns) {
    // Who has nothing else to do reads: sooner than another thread wakes up. Not with a deadline, which
    // a read does not know.
    if (deadline_ns == 0 && !demands_.empty()) {
        fill(held, first_demand());
        return true;
    }
    const uint64_t seen = changes_;
    if (deadline_ns != 0 && something_to_do()) {
        unlock_and_wake(held);
        held.lock();
    }
    // What others read is often nearly there, and sleeping takes a while.
    const uint64_t poll_ns = std::min(kMostPollNs, static_cast<uint64_t>(gate_.wake_ns()));
    const uint64_t polled = now_ns() + poll_ns;
    while (changes_ == seen && now_ns() < polled && (deadline_ns == 0 || now_ns() < deadline_ns)) {
        held.unlock();
        std::this_thread::yield();
        held.lock();
    }
    ++waiting_;
    bool in_time = true;
    while (in_time && changes_ == seen && (deadline_ns != 0 || demands_.empty())) {
        if (deadline_ns == 0) {
            changed_.wait(held);
        } else {
            const std::chrono::steady_clock::time_point until{
                std::chrono::nanoseconds(deadline_ns)};
            in_time = changed_.wait_until(held, until) == std::cv_status::no_timeout;
        }
    }
    --waiting_;
    return in_time || changes_ != seen;
}

}  // namespace nestling
