#include "stand_ins.h"

#include <algorithm>
#include <string_view>

#include "status.h"

namespace nestling {
namespace {

bool listed(std::string_view order, std::string_view name, uint32_t *rank) {
    *rank = 0;
    while (true) {
        const size_t comma = order.find(',');
        if (order.substr(0, comma) == name) {
            return true;
        }
        if (comma == std::string_view::npos) {
            return false;
        }
        order.remove_prefix(comma + 1);
        ++*rank;
    }
}

std::string joined(const std::vector<StandIns::Target> &targets) {
    std::string text;
    for (const StandIns::Target &target : targets) {
        text += (text.empty() ? "" : ", ") + target.name;
    }
    return text;
}

}  // namespace

int StandIns::open(const Tables &tables, const char *order, nst_log log, void *log_user,
                   nst_error *err) {
    tables_ = &tables;
    log_ = log;
    log_user_ = log_user;
    failures_.resize(tables.stages.size());
    targets_.resize(tables.targets.size());
    for (size_t i = 0; i < targets_.size(); ++i) {
        Target &target = targets_[i];
        target.name = tables.targets[i];
        target.rank = static_cast<uint32_t>(i);
        if (order != nullptr && !listed(order, target.name, &target.rank)) {
            target.rank = NST_NONE;
            target.state.reason = "it is not among the targets that were asked for";
        } else {
            target.state = look_up_target(target.name);
            order_.push_back(static_cast<uint32_t>(i));
        }
    }
    for (const Stage &stage : tables.stages) {
        ++targets_[stage.target].stages;
    }
    std::sort(order_.begin(), order_.end(),
              [this](uint32_t a, uint32_t b) { return targets_[a].rank < targets_[b].rank; });
    const auto runs = [this](uint32_t i) { return targets_[i].state.runs; };
    if (std::none_of(order_.begin(), order_.end(), runs)) {
        const Target &first = targets_[order_.empty() ? 0 : order_.front()];
        return failf(err, NST_E_TARGET, {}, 0, 0,
                     "no target of the bundle runs here: it is for %.60s; %.30s: %.60s",
                     joined(targets_).c_str(), first.name.c_str(), first.state.reason.c_str());
    }
    simple_ = targets_.size() == 1;
    for (const uint32_t i : order_) {
        if (!targets_[i].state.runs) {
            say("the target " + targets_[i].name +
                " does not run here: " + targets_[i].state.reason);
        }
    }
    return NST_OK;
}

void StandIns::say(const std::string &line) const {
    if (log_ != nullptr) {
        log_(log_user_, line.c_str());
    }
}

bool StandIns::usable_locked(uint32_t stage) const {
    return targets_[tables_->stages[stage].target].state.runs && failures_[stage].empty();
}

bool StandIns::usable(uint32_t stage) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return usable_locked(stage);
}

int StandIns::resolve(std::span<const uint32_t> stages, Choice choice, bool note,
                      std::vector<uint32_t> *out, nst_error *err) {
    if (simple_) {
        out->insert(out->end(), stages.begin(), stages.end());
        return NST_OK;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const uint32_t stage : stages) {
        uint32_t asked = choice == Choice::kAsAsked ? stage : NST_NONE;
        uint32_t found = asked != NST_NONE && usable_locked(asked) ? asked : NST_NONE;
        for (size_t i = 0; found == NST_NONE && i < order_.size(); ++i) {
            const uint32_t candidate = on(stage, order_[i]);
            if (candidate == NST_NONE) {
                continue;
            }
            asked = asked == NST_NONE ? candidate : asked;
            found = usable_locked(candidate) ? candidate : NST_NONE;
        }
        if (found == NST_NONE) {
            const Stage &entry = tables_->stages[stage];
            const std::string &failure = failures_[stage];
            const Target &target = targets_[entry.target];
            return failf(err, NST_E_TARGET, {.section = {}, .stage = entry.name}, 0, 0,
                         "nothing stands in for the stage, and on %.40s: %.100s",
                         target.name.c_str(),
                         (failure.empty() ? target.state.reason : failure).c_str());
        }
        if (note && found != asked) {
            remember(asked, found);
        }
        out->push_back(found);
    }
    return NST_OK;
}

uint32_t StandIns::best_rank(std::span<const uint32_t> stages) const {
    uint32_t best = NST_NONE;
    for (const uint32_t stage : stages) {
        best = std::min(best, targets_[tables_->stages[stage].target].rank);
    }
    return best;
}

void StandIns::remember(uint32_t stage, uint32_t replacement) {
    for (const Fallback &known : fallbacks_) {
        if (known.stage == stage && known.replacement == replacement) {
            return;
        }
    }
    const Stage &asked = tables_->stages[stage];
    const std::string &failure = failures_[stage];
    fallbacks_.push_back(
        {stage, replacement, failure.empty() ? targets_[asked.target].state.reason : failure});
    if (!failure.empty()) {
        say("the stage " + tables_->stages[replacement].name + " runs in the place of " +
            asked.name + ", which does not load: " + failure);
    }
}

void StandIns::note_failure(uint32_t stage, const nst_error &error) {
    if (simple_) {
        return;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const uint32_t target : order_) {
        const uint32_t other = on(stage, target);
        if (other != NST_NONE && other != stage && usable_locked(other)) {
            failures_[stage] = *error.message != '\0' ? error.message : "it cannot be loaded";
            return;
        }
    }
}

uint32_t StandIns::fallback_count() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<uint32_t>(fallbacks_.size());
}

bool StandIns::fallback(uint32_t index, nst_fallback *out) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (index >= fallbacks_.size()) {
        return false;
    }
    const Fallback &entry = fallbacks_[index];
    *out = {.stage = entry.stage, .replacement = entry.replacement, .reason = entry.reason.c_str()};
    return true;
}

}  // namespace nestling
