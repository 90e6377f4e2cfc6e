#include "prefetch.h"

#include <algorithm>
#include <new>

#include "log.h"
#include "status.h"

nst_prefetch::nst_prefetch(nst_model &model, uint32_t path, uint32_t mode,
                           const nestling::Plan &plan, nst_progress progress, void *user)
    : model_(model), path_(path), mode_(mode), plan_(&plan), progress_(progress), user_(user) {
    model_.users.fetch_add(1, std::memory_order_relaxed);
}

nst_prefetch::~nst_prefetch() {
    if (thread_.joinable()) {
        thread_.join();
    }
    model_.users.fetch_sub(1, std::memory_order_release);
}

void nst_prefetch::start() {
    thread_ = std::thread([this] { work(); });
}

bool nst_prefetch::report(uint32_t stages_left) {
    const uint64_t missing =
        std::min(model_.residency().missing_bytes(plan_->stages()), total_bytes_);
    if (progress_ != nullptr &&
        progress_(user_, total_bytes_ - missing, total_bytes_, stages_left) != 0) {
        return false;
    }
    return !cancel_.load(std::memory_order_relaxed);
}

int nst_prefetch::load() {
    total_bytes_ = model_.residency().missing_bytes(plan_->stages());
    if (!report(static_cast<uint32_t>(plan_->stages().size()))) {
        return nestling::failf(&error_, NST_E_CANCELLED, {}, 0, 0, "loading was cancelled");
    }
    const int code = model_.residency().acquire(
        plan_->stages(), [this](uint32_t left) { return report(left); }, &error_);
    if (code == NST_OK) {
        model_.residency().unpin(plan_->stages());
    }
    return code;
}

void nst_prefetch::work() {
    const nestling::LogCapture quiet;
    try {
        while ((code_ = load()) != NST_OK && model_.plan_again(path_, mode_, plan_)) {
            code_ = model_.find_plan(path_, mode_, &plan_, nullptr, &error_);
        }
    } catch (const std::bad_alloc &) {
        code_ = nestling::failf(&error_, NST_E_NO_MEMORY, {}, 0, 0, "out of memory");
    }
    done_.store(true, std::memory_order_release);
}

int nst_prefetch::wait(nst_error *err) {
    thread_.join();
    if (err != nullptr && code_ != NST_OK) {
        *err = error_;
    }
    return code_;
}
