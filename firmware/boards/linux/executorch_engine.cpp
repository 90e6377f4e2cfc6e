#include "executorch_engine.h"

#include <algorithm>
#include <new>
#include <system_error>

namespace nestling::linux_board {
namespace {

ExecutorchEngine &of(void *self) {
    return *static_cast<ExecutorchEngine *>(self);
}

// No exception crosses into the server, which is C.
template <typename Work>
int guarded(nst_error *err, Work work) {
    try {
        return work();
    } catch (const std::bad_alloc &) {
        return nst_fail(err, NST_E_NO_MEMORY, nullptr, nullptr, 0, 0, "out of memory");
    } catch (const std::system_error &) {
        return nst_fail(err, NST_E_NO_MEMORY, nullptr, nullptr, 0, 0,
                        "the system gives no thread to run in");
    }
}

const nst_engine_ops kOps = {
    .name = "executorch",
    .clock = NST_CLOCK_NS,
    .open =
        [](void *self, uint64_t offset, uint64_t size, nst_error *err) {
            return guarded(err, [&] { return of(self).open(offset, size, err); });
        },
    .close = [](void *self) { of(self).close(); },
    .bundle = [](void *self) { return of(self).bundle(); },
    .select = [](void *self, uint32_t path, nst_error *err) { return of(self).select(path, err); },
    .select_stages = [](void *self, const uint32_t *stages, uint32_t count,
                        nst_error *err) { return of(self).select_stages(stages, count, err); },
    .tensor = [](void *self, uint32_t slot, void **out_data, size_t *out_bytes,
                 nst_error *err) { return of(self).tensor(slot, out_data, out_bytes, err); },
    .run = [](void *self, nst_run_report *out,
              nst_error *err) { return guarded(err, [&] { return of(self).run(out, err); }); },
    .stage_report = [](void *self, uint32_t stage, nst_stage_report *out,
                       nst_error *err) { return of(self).stage_report(stage, out, err); },
    .memory = [](void *self, nst_engine_memory *out,
                 nst_error *err) { return of(self).memory(out, err); },
    .set_budget = [](void *self, uint64_t budget_bytes,
                     nst_error *err) { return of(self).set_budget(budget_bytes, err); },
    .set_trace = [](void *self, bool on) { of(self).set_trace(on); },
    .cancel = [](void *self) { of(self).cancel(); },
};

}  // namespace

ExecutorchEngine::Opened::~Opened() {
    nst_session_destroy(session);
    nst_model_close(model, nullptr);
}

ExecutorchEngine::ExecutorchEngine(int flash, const ExecutorchOptions &options, Meanwhile meanwhile,
                                   RunThread::Wake wake)
    : flash_(flash),
      options_(options),
      meanwhile_(std::move(meanwhile)),
      run_thread_(std::move(wake)) {}

ExecutorchEngine::~ExecutorchEngine() = default;

nst_engine ExecutorchEngine::engine() {
    return {.ops = &kOps, .self = this};
}

int ExecutorchEngine::check_opened(nst_error *err) const {
    return opened_ != nullptr ? NST_OK
                              : nst_fail(err, NST_E_STATE, nullptr, nullptr, 0, 0,
                                         "no bundle is open on the device");
}

// Whether everything in the bundle is what this engine runs: who signed it, and that each path's
// programs can be loaded. What the budget holds of them stays loaded, so that switches are free.
int ExecutorchEngine::check(Opened &next, nst_error *err) const {
    if (options_.has_key) {
        if (int code = nst_model_check_signature(next.model, options_.public_key.data(), err);
            code != NST_OK) {
            return code;
        }
    }
    for (uint32_t path = 0; path < nst_model_path_count(next.model); ++path) {
        const int code = nst_model_load(next.model, path, NST_MODE_DEFAULT, err);
        // A path that the budget does not hold is the business of whoever selects it.
        if (code != NST_OK && code != NST_E_BUDGET) {
            return code;
        }
    }
    nst_memory memory;
    if (int code = nst_model_memory(next.model, &memory, err); code != NST_OK) {
        return code;
    }
    next.loads = memory.loads;
    next.evictions = memory.evictions;
    return NST_OK;
}

int ExecutorchEngine::open(uint64_t offset, uint64_t size, nst_error *err) {
    nst_model_options options;
    nst_model_options_default(&options);
    options.budget_bytes = options_.budget_bytes;
    options.threads = options_.threads;
    options.verify_all = 1;
    auto next = std::make_unique<Opened>();
    if (int code = nst_model_open_fd(flash_, offset, size, &options, &next->model, err);
        code != NST_OK) {
        return code;
    }
    if (int code = check(*next, err); code != NST_OK) {
        return code;
    }
    if (int code = nst_session_create(next->model, &next->session, err); code != NST_OK) {
        return code;
    }
    if (int code = nst_session_select(next->session, 0, NST_MODE_DEFAULT, err); code != NST_OK) {
        return code;
    }
    const size_t stages = nst_model_stage_count(next->model);
    std::vector<uint64_t> traced(stages, 0);
    std::vector<uint64_t> before(stages, 0);
    {
        const std::lock_guard lock(opened_changes_);
        opened_.swap(next);
    }
    traced_ns_.swap(traced);
    before_ns_.swap(before);
    return NST_OK;  // the old bundle is closed here
}

void ExecutorchEngine::close() {
    std::unique_ptr<Opened> last;
    const std::lock_guard lock(opened_changes_);
    opened_.swap(last);
}

const nst_bundle *ExecutorchEngine::bundle() const {
    return opened_ != nullptr ? nst_model_bundle(opened_->model) : nullptr;
}

int ExecutorchEngine::select(uint32_t path, nst_error *err) {
    if (int code = check_opened(err); code != NST_OK) {
        return code;
    }
    return nst_session_select(opened_->session, path, NST_MODE_DEFAULT, err);
}

int ExecutorchEngine::select_stages(const uint32_t *stages, uint32_t count, nst_error *err) {
    if (int code = check_opened(err); code != NST_OK) {
        return code;
    }
    return nst_session_select_stages(opened_->session, stages, count, err);
}

int ExecutorchEngine::tensor(uint32_t slot, void **out_data, size_t *out_bytes, nst_error *err) {
    if (int code = check_opened(err); code != NST_OK) {
        return code;
    }
    nst_tensor tensor;
    if (int code = nst_session_tensor(opened_->session, slot, &tensor, err); code != NST_OK) {
        return code;
    }
    *out_data = tensor.data;
    *out_bytes = tensor.bytes;
    return NST_OK;
}

int ExecutorchEngine::run(nst_run_report *out, nst_error *err) {
    if (int code = check_opened(err); code != NST_OK) {
        return code;
    }
    int code = NST_OK;
    run_thread_.start([&] { code = nst_session_run(opened_->session, err); });
    if (meanwhile_) {
        meanwhile_(run_thread_);
    }
    run_thread_.wait();
    if (code != NST_OK) {
        return code;
    }
    nst_selection selection;
    if (code = nst_session_selection(opened_->session, &selection, err); code != NST_OK) {
        return code;
    }
    out->duration = selection.last_run_ns;
    out->stages = selection.stages;
    return NST_OK;
}

uint64_t ExecutorchEngine::counted_ns(uint32_t stage) const {
    nst_stage_stats stats;
    return nst_model_stage_stats(opened_->model, stage, &stats, nullptr) == NST_OK ? stats.total_ns
                                                                                   : 0;
}

int ExecutorchEngine::stage_report(uint32_t stage, nst_stage_report *out, nst_error *err) {
    if (int code = check_opened(err); code != NST_OK) {
        return code;
    }
    nst_stage_stats stats;
    if (int code = nst_model_stage_stats(opened_->model, stage, &stats, err); code != NST_OK) {
        return code;
    }
    out->calls = stats.calls;
    out->total = traced_ns_[stage] + (tracing_ ? stats.total_ns - before_ns_[stage] : 0);
    out->resident_bytes = stats.resident_bytes;
    return NST_OK;
}

int ExecutorchEngine::memory(nst_engine_memory *out, nst_error *err) {
    *out = {};
    out->budget_bytes = options_.budget_bytes;
    if (opened_ == nullptr) {
        return NST_OK;
    }
    nst_memory memory;
    if (int code = nst_model_memory(opened_->model, &memory, err); code != NST_OK) {
        return code;
    }
    constexpr uint64_t most = UINT32_MAX;
    out->arena_bytes = memory.arena_bytes;
    out->resident_bytes = memory.resident_bytes;
    out->budget_bytes = memory.budget_bytes;
    out->stages_resident = memory.stages_resident;
    out->loads = static_cast<uint32_t>(std::min(memory.loads - opened_->loads, most));
    out->evictions = static_cast<uint32_t>(std::min(memory.evictions - opened_->evictions, most));
    return NST_OK;
}

int ExecutorchEngine::set_budget(uint64_t budget_bytes, nst_error *err) {
    if (opened_ != nullptr) {
        if (int code = nst_model_set_budget(opened_->model, budget_bytes, err); code != NST_OK) {
            return code;
        }
    }
    options_.budget_bytes = budget_bytes;  // of bundles to come as well
    return NST_OK;
}

// The runtime counts always; what belongs to the trace is the part between on and off.
void ExecutorchEngine::set_trace(bool on) {
    if (on != tracing_ && opened_ != nullptr) {
        for (uint32_t stage = 0; stage < traced_ns_.size(); ++stage) {
            const uint64_t now = counted_ns(stage);
            if (on) {
                before_ns_[stage] = now;
            } else {
                traced_ns_[stage] += now - before_ns_[stage];
            }
        }
    }
    tracing_ = on;
}

void ExecutorchEngine::cancel() {
    const std::lock_guard lock(opened_changes_);
    if (opened_ != nullptr) {
        nst_session_cancel(opened_->session);
    }
}

}  // namespace nestling::linux_board
