#include "session.h"

#include <algorithm>

#include "clock.h"
#include "core/path.h"
#include "log.h"
#include "status.h"
#include "threads.h"

using nestling::failf;
using nestling::Plan;
using nestling::PlanArgument;
using nestling::PlanStep;

namespace {

// SPEC.md: written by the engine in bundles with growing state.
constexpr const char *kPositionSlot = "position";

}  // namespace

nst_session::nst_session(nst_model &model) : model_(model) {
    model_.users.fetch_add(1, std::memory_order_relaxed);
}

nst_session::~nst_session() {
    if (plan_ != nullptr) {
        model_.residency().unpin(plan_->stages());
    }
    model_.users.fetch_sub(1, std::memory_order_release);
}

int nst_session::open(nst_error *err) {
    const nestling::Tables &tables = model_.tables();
    if (!buffers_.open(tables)) {
        return failf(err, NST_E_NO_MEMORY, {}, 0, 0, "no memory for the session's buffers");
    }
    if (int code = growth_.open(tables, err); code != NST_OK) {
        return code;
    }
    for (uint32_t i = 0; growth_.any() && i < tables.slots.size(); ++i) {
        const nestling::Slot &slot = tables.slots[i];
        if (slot.name == kPositionSlot && slot.role == NST_INPUT && slot.dtype == NST_I64 &&
            slot.bytes == sizeof(int64_t)) {
            position_ = static_cast<int64_t *>(buffers_.outside(i));
        }
    }
    // A legal path has at most one stage for each position.
    const size_t steps = model_.bundle().count[NST_POSITIONS];
    for (Plan &plan : own_plans_) {
        plan.reserve(steps, steps * tables.max_arguments, tables.slots.size());
    }
    pointers_.resize(tables.max_arguments);
    resolved_.reserve(steps);
    return NST_OK;
}

int nst_session::adopt(const Plan &plan, uint32_t path, bool fused, nst_error *err) {
    if (plan_ == nullptr) {
        if (int code = model_.residency().acquire(plan.stages(), {}, err); code != NST_OK) {
            return code;
        }
    } else {
        bool lost = false;
        const int code = model_.residency().exchange(plan_->stages(), plan.stages(), &lost, err);
        if (code != NST_OK) {
            if (lost) {
                plan_ = nullptr;
                return failf(err, code, {}, 0, 0,
                             "the path cannot be loaded, and neither can the one before it again");
            }
            return code;
        }
    }
    plan_ = &plan;
    path_ = path;
    fused_ = fused;
    return NST_OK;
}

int nst_session::select(uint32_t path, uint32_t mode, nst_error *err) {
    const Plan *plan = nullptr;
    bool fused = false;
    int code = model_.find_plan(path, mode, &plan, &fused, err);
    if (code != NST_OK) {
        return code;
    }
    // Each round has other stages stand in for those that do not load.
    while ((code = adopt(*plan, path, fused, err)) != NST_OK &&
           model_.plan_again(path, mode, plan)) {
        if (int again = model_.find_plan(path, mode, &plan, &fused, err); again != NST_OK) {
            return again;
        }
    }
    return code;
}

std::span<const uint32_t> nst_session::stages() const {
    return plan_ != nullptr ? plan_->stages() : std::span<const uint32_t>();
}

int nst_session::select_stages(std::span<const uint32_t> stages, nst_error *err) {
    if (int code = nst_path_check(&model_.bundle(), stages.data(), stages.size(), nullptr, err);
        code != NST_OK) {
        return code;
    }
    Plan &next = plan_ == &own_plans_[0] ? own_plans_[1] : own_plans_[0];
    nestling::StandIns &stand_ins = model_.stand_ins();
    int code = NST_OK;
    do {
        resolved_.clear();
        code = stand_ins.resolve(stages, nestling::Choice::kAsAsked, true, &resolved_, err);
        if (code != NST_OK) {
            return code;
        }
        next.build(model_.tables(), resolved_);
        code = adopt(next, NST_NONE, false, err);
        // Each round has other stages stand in for those that do not load.
    } while (code != NST_OK &&
             !std::all_of(resolved_.begin(), resolved_.end(),
                          [&](uint32_t stage) { return stand_ins.usable(stage); }));
    return code;
}

int nst_session::bind(uint32_t slot, nst_role role, void *data, size_t bytes, nst_error *err) {
    const nestling::Tables &tables = model_.tables();
    if (slot >= tables.slots.size()) {
        return failf(err, NST_E_NOT_FOUND, {}, tables.slots.size(), slot, "no such slot");
    }
    const nestling::Slot &target = tables.slots[slot];
    if (target.role != role) {
        return failf(err, NST_E_ARGUMENT, {}, role, target.role, "the slot %.80s is not an %s",
                     target.name.c_str(), role == NST_INPUT ? "input" : "output");
    }
    if (data != nullptr && bytes != target.bytes) {
        return failf(err, NST_E_ARGUMENT, {}, target.bytes, bytes,
                     "the slot %.80s takes another number of bytes", target.name.c_str());
    }
    if (data != nullptr && role == NST_OUTPUT && reinterpret_cast<uintptr_t>(data) % 16 != 0) {
        return failf(err, NST_E_ARGUMENT, {}, 16, reinterpret_cast<uintptr_t>(data) % 16,
                     "memory for the output %.80s is not aligned", target.name.c_str());
    }
    buffers_.bind(slot, data);
    return NST_OK;
}

int nst_session::tensor(uint32_t slot, nst_tensor *out, nst_error *err) const {
    if (int code = nst_model_slot(&model_, slot, out, err); code != NST_OK) {
        return code;
    }
    if (out->role == NST_INTERNAL) {
        return failf(err, NST_E_ARGUMENT, {}, 0, 0, "the slot %.80s has no memory between runs",
                     out->name);
    }
    out->data = buffers_.outside(slot);
    return NST_OK;
}

// Until the rows that a stage reads are in memory.
int nst_session::await_caches(const PlanStep &step, nst_error *err) {
    const PlanArgument *arguments = plan_->arguments(step);
    for (uint32_t i = 0; i < step.arguments; ++i) {
        if (model_.tables().slots[arguments[i].slot].grows) {
            if (int code = pager_->wait_for(arguments[i].slot, err); code != NST_OK) {
                return code;
            }
        }
    }
    return NST_OK;
}

// Where a slot is as a step of this run reads or writes it.
void *nst_session::at(const PlanArgument &argument) const {
    if (argument.slot != exchanged_) {
        return buffers_.at(argument);
    }
    using nestling::Place;
    return buffers_.at(
        {argument.slot, argument.place == Place::kFirst ? Place::kSecond : Place::kFirst});
}

void *nst_session::pointer(size_t step, uint32_t slot) const {
    const PlanStep &at_step = plan_->steps()[step];
    const PlanArgument *arguments = plan_->arguments(at_step);
    const size_t inputs = model_.tables().stages[at_step.stage].inputs.size();
    const auto *found = std::find_if(arguments, arguments + inputs,
                                     [&](const PlanArgument &a) { return a.slot == slot; });
    return found == arguments + inputs ? nullptr : at(*found);
}

int nst_session::repeat(size_t step, nst_error *err) {
    const PlanStep &again = plan_->steps()[step];
    return run_step(again, again.stage, err);
}

int nst_session::run_step(const PlanStep &step, uint32_t stage, nst_error *err) {
    if (stage != step.stage) {
        return run_other(step, stage, err);
    }
    const PlanArgument *arguments = plan_->arguments(step);
    for (uint32_t i = 0; i < step.arguments; ++i) {
        pointers_[i] = at(arguments[i]);
    }
    macs_ += model_.tables().stages[stage].macs;
    return model_.run_stage(stage, request_, pointers_.data(), err);
}

// In the place of a step's own stage, another one of its position, or none.
int nst_session::run_other(const PlanStep &step, uint32_t stage, nst_error *err) {
    const std::vector<nestling::Stage> &stages = model_.tables().stages;
    const PlanArgument *inputs = plan_->arguments(step);
    const PlanArgument *outputs = inputs + stages[step.stage].inputs.size();
    const PlanArgument *end = inputs + step.arguments;
    const auto find = [](const PlanArgument *from, const PlanArgument *to, uint32_t slot) {
        return std::find_if(from, to, [&](const PlanArgument &a) { return a.slot == slot; });
    };
    if (stage != NST_NONE) {
        size_t count = 0;
        const auto gather = [&](const std::vector<uint32_t> &slots, const PlanArgument *from,
                                const PlanArgument *to) {
            return std::all_of(slots.begin(), slots.end(), [&](uint32_t slot) {
                const PlanArgument *found = find(from, to, slot);
                if (found != to) {
                    pointers_[count++] = at(*found);
                }
                return found != to;
            });
        };
        if (!gather(stages[stage].inputs, inputs, outputs) ||
            !gather(stages[stage].outputs, outputs, end)) {
            return failf(err, NST_E_PATH, {.section = {}, .stage = stages[stage].name}, 0, 0,
                         "the stage cannot take the place of another one: it has other slots");
        }
        macs_ += stages[stage].macs;
        if (int code = model_.run_stage(stage, request_, pointers_.data(), err); code != NST_OK) {
            return code;
        }
    }
    // What was to be written stays in the buffer that the step would have read.
    for (const PlanArgument *output = outputs; output != end; ++output) {
        const bool written = stage != NST_NONE &&
                             std::find(stages[stage].outputs.begin(), stages[stage].outputs.end(),
                                       output->slot) != stages[stage].outputs.end();
        if (written || find(inputs, outputs, output->slot) == outputs) {
            continue;
        }
        if (exchanged_ != NST_NONE && exchanged_ != output->slot) {
            return failf(err, NST_E_PATH, {}, 0, 0, "a run leaves out writing two slots");
        }
        exchanged_ = exchanged_ == NST_NONE ? output->slot : NST_NONE;
    }
    return NST_OK;
}

int nst_session::run_rows(uint32_t rows, nst_error *err, nestling::RunGuide *guide) {
    if (plan_ == nullptr) {
        return failf(err, NST_E_STATE, {}, 0, 0, "no path is selected");
    }
    if (growth_.any()) {
        if (int code = growth_.check(*plan_, rows, err); code != NST_OK) {
            return code;
        }
        if (pager_ != nullptr && plan_->rows() != 0) {
            const uint32_t first = growth_.position();
            if (int code = pager_->make_room(first, first + plan_->rows(), err); code != NST_OK) {
                return code;
            }
        }
        buffers_.point_rows(growth_.position());
        if (position_ != nullptr) {
            *position_ = growth_.position();
        }
    }
    if (!growth_.any() || growth_.position() == 0) {
        request_ = model_.new_request();
    }
    const uint64_t begin = nestling::now_ns();
    const nestling::SingleThread single(model_.single_thread());
    exchanged_ = NST_NONE;
    for (size_t i = 0; i < plan_->steps().size(); ++i) {
        const PlanStep &step = plan_->steps()[i];
        if (cancel_.load(std::memory_order_relaxed) &&
            cancel_.exchange(false, std::memory_order_relaxed)) {
            return failf(err, NST_E_CANCELLED,
                         {.section = {}, .stage = model_.tables().stages[step.stage].name}, 0, 0,
                         "the run was cancelled before this stage");
        }
        if (pager_ != nullptr && pager_->loading()) {
            if (int code = await_caches(step, err); code != NST_OK) {
                return code;
            }
        }
        uint32_t stage = step.stage;
        if (guide != nullptr) {
            if (int code = guide->before(*this, i, &stage, err); code != NST_OK) {
                return code;
            }
        }
        if (int code = run_step(step, stage, err); code != NST_OK) {
            return code;
        }
    }
    for (const uint32_t slot : plan_->flipped_states()) {
        buffers_.flip_state(slot);
    }
    growth_.commit(*plan_, rows);
    last_run_ns_ = nestling::now_ns() - begin;
    ++runs_;
    return NST_OK;
}

void nst_session::selection(nst_selection *out) const {
    *out = {};
    out->path = plan_ != nullptr ? path_ : NST_NONE;
    out->mode = fused_ ? NST_MODE_FUSED : NST_MODE_CHAIN;
    out->stages = plan_ != nullptr ? static_cast<uint32_t>(plan_->steps().size()) : 0;
    out->runs = runs_;
    out->last_run_ns = last_run_ns_;
}
